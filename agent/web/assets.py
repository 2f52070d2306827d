"""The page's own files: style, script and icons.

They are read once from the package; the ETag is the hash of what was read, so a browser
keeps them exactly as long as the program does not change.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

MEDIA_TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon-ok.svg": "image/svg+xml",
    "icon-info.svg": "image/svg+xml",
    "icon-unknown.svg": "image/svg+xml",
    "icon-warning.svg": "image/svg+xml",
    "icon-critical.svg": "image/svg+xml",
}
"""Every file that is served; a name that is not here does not exist."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    body: bytes
    media_type: str
    etag: str


def asset(name: str) -> Asset | None:
    """Return the file of this name; None when the page has none of it."""
    return _read(name) if name in MEDIA_TYPES else None


@cache
def _read(name: str) -> Asset:
    body = resources.files("agent.web").joinpath("static", name).read_bytes()
    return Asset(body, MEDIA_TYPES[name], f'"{hashlib.sha256(body).hexdigest()[:20]}"')
