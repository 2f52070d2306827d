"""The forms in which a manager answers: JSON, and what is not JSON.

Theory of operation. Errors that the REST service raises are JSON objects with three
keys. What Werkzeug refuses before them (malformed JSON, an unknown route, a wrong
verb) and what nginx answers by itself (an archive that is not there, a service that is
down) is HTML. An error that nobody foresaw is 500; in 4.5.5 its message says what it
was, later only its traceback does.
Source: `manager_exceptions.py` and `server.py` of the REST service, and what a 7.1
manager answered.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

JSON = "application/json"
FLASK_HTML = "text/html; charset=utf-8"
NGINX_HTML = "text/html"

TLS_WANTED = "SSL must be used for API access on SSL-enabled managers."
NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually "
    "please check your spelling and try again."
)
NOT_ALLOWED = "The method is not allowed for the requested URL."
NOT_JSON = (
    "The browser (or proxy) sent a request that this server could not understand."
)
UNFORESEEN = (
    "500 Internal Server Error: The server encountered an internal error and was "
    "unable to complete your request. Either the server is overloaded or there is an "
    "error in the application."
)


class Refusal(Exception):  # noqa: N818 - what the manager answers is no failure of ours
    """An answer in the manager's own form of an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    @property
    def response(self) -> Response:
        """Return it as the client gets it."""
        return error(self.status, self.code, self.message)


class Misread(Exception):  # noqa: N818 - as above
    """An answer of Werkzeug's, in HTML."""

    def __init__(self, status: int, name: str, words: str, allow: str = "") -> None:
        super().__init__(words)
        self.response = flask_html(status, name, words)
        if allow:
            self.response.headers["Allow"] = allow


class Unforeseen(Exception):  # noqa: N818 - as above
    """An error that the REST service did not foresee, and its kind in Python."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def reply(body: object, status: int = 200) -> Response:
    """Return an answer in JSON, with the newline that Flask ends it with."""
    return Response(f"{json.dumps(body)}\n", status, media_type=JSON)


def error(
    status: int, code: str, message: str, traceback: str | None = None
) -> Response:
    """Return an error in JSON."""
    body = {"message": message, "error_code": code, "server_traceback": traceback}
    return reply(body, status)


def internal(kind: str, message: str, *, told: bool) -> Response:
    """Return the answer to an error that nobody foresaw; `told`: 4.x says which."""
    trace = f"Traceback (most recent call last):\n  ...\n{kind}: {message}\n"
    what = f"{kind}: {message}" if told else f"InternalServerError: {UNFORESEEN}"
    words = f"Internal error occurred in manager REST server - {what}"
    return error(500, "internal_server_error", words, trace)


def flask_html(status: int, name: str, words: str) -> Response:
    """Return a page of Werkzeug's."""
    page = (
        f"<!doctype html>\n<html lang=en>\n<title>{status} {name}</title>\n"
        f"<h1>{name}</h1>\n<p>{words}</p>\n"
    )
    return Response(page, status, {"Content-Type": FLASK_HTML})


def nginx_html(
    status: int, name: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a page of nginx's."""
    page = (
        f"<html>\r\n<head><title>{status} {name}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {name}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    raw = Response(page.encode(), status, dict(headers or {}))
    raw.headers["Content-Type"] = NGINX_HTML
    return raw


def unknown_route() -> Misread:
    """Return the answer to a path that leads nowhere."""
    return Misread(404, "Not Found", NOT_FOUND)


def bad_parameter(message: str) -> Refusal:
    """Return the answer to a parameter that is wrong."""
    return Refusal(400, "bad_parameters_error", message)


def missing(kind: str, name: str) -> Refusal:
    """Return the answer to an id that is not there."""
    message = f"Requested `{kind}` with ID `{name}` was not found"
    return Refusal(404, "not_found_error", message)


Shown = dict[str, Any]
"""A thing as a client sees it, key by key."""
