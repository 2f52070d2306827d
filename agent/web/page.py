"""From the API's JSON to one HTML document.

Theory of operation. The template sees plain JSON values, the words of `words` and the
drawings of `picture`. Everything is escaped; there is no inline style and no inline
script, so the policy below needs no exception.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.web import words
from agent.web.graph import draw_graph
from agent.web.tree import draw_tree

if TYPE_CHECKING:
    from jinja2 import Environment

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows, in the shapes of the API's answers."""

    status: Json
    lineage: Json
    incidents: Sequence[Json]
    snapshots: Sequence[Json]
    elsewhere: Sequence[Json]
    shelf_error: str
    """Why the catalogue could not be read; empty when it could."""
    journal_error: str
    """Why the journal cannot be written; empty when it can."""
    version: str


@cache
def environment() -> "Environment":
    """Return what renders the templates of this package."""
    # 2 MB that an agent spends once somebody looks at its page.
    from jinja2 import (  # noqa: PLC0415
        Environment,
        PackageLoader,
        StrictUndefined,
    )

    environment = Environment(
        loader=PackageLoader("agent.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=words.size,
        clock=words.clock,
        day_and_clock=words.day_and_clock,
        age=words.age,
        title_of=words.title,
        parts=words.parts,
    )
    environment.globals["ago"] = words.ago
    return environment


def render(page: Page) -> str:
    """Return the whole document."""
    return (
        environment()
        .get_template("page.html")
        .render(
            page=page,
            status=page.status,
            headline=page.status["headline"],
            graph=draw_graph(page.status),
            tree=draw_tree(page.lineage),
        )
    )
