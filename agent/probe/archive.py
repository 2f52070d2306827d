"""Makes of a server's archive settings what may be told to others.

Theory of operation. Two servers archive alike when their commands are the same text,
or their libraries and folders are. Such a text may hold a password, so it is replaced
by a digest as soon as it has been read: nothing after this module has seen it. From 15
on a library goes before a command, as in the server itself.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

_DIGITS = 16
"""Of a SHA-256, in hexadecimal: enough to tell any number of settings apart."""
_ASIDE = ("mode", "command", "library", "folder")


def archiver(told: Mapping[str, Any] | None) -> dict[str, object] | None:
    """Return the plain form of `core.observation.Archiver`; None: nothing is archived.

    `told` is what the statement gave. Raises KeyError when something is missing in it.
    """
    if told is None:
        return None
    method, place = "archive_command", " ".join(told["command"].split())
    if told["library"]:
        method, place = "archive_library", f"{told['library']} {told['folder']}"
    if not place:
        return None
    plain = {name: value for name, value in told.items() if name not in _ASIDE}
    digest = hashlib.sha256(f"{method} {place}".encode()).hexdigest()[:_DIGITS]
    always = told["mode"] == "always"
    return {**plain, "method": method, "target": digest, "always": always}
