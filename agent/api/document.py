"""The OpenAPI document: what the framework derives, and what it cannot know.

The framework knows paths and shapes. What is added here: that errors are problem
details, and which scope each route asks for.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from agent.api.access import scopes_of
from agent.api.models import Problem
from agent.api.problems import MEDIA_TYPE
from agent.api.tokens import Scope

SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token `sg_<scope>_...`. The scopes named at a route are those of "
    "which the token must have one.",
}


def finish(document: dict[str, Any], routes: Iterable[APIRoute]) -> dict[str, Any]:
    """Return the document with problems and scopes in it."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["schemas"] = dict(sorted(schemas.items()))
    components["responses"] = {
        "Problem": {
            "description": "What went wrong (RFC 9457)",
            "content": {
                MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
    }
    components["securitySchemes"] = {"token": SCHEME}
    for route in routes:
        _finish_operations(document, route)
    return document


def _finish_operations(document: dict[str, Any], route: APIRoute) -> None:
    scopes = sorted({scope.value for scope in _scopes(route.dependant)})
    for method in route.methods or ():
        operation = document["paths"][route.path_format][method.lower()]
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
        if scopes:
            operation["security"] = [{"token": [scope]} for scope in scopes]


def _scopes(dependant: Dependant) -> Iterator[Scope]:
    if dependant.call is not None:
        yield from scopes_of(dependant.call)
    for inner in dependant.dependencies:
        yield from _scopes(inner)
