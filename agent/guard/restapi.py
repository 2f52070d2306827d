"""What Patroni itself says over its REST API, on this machine only.

Theory of operation. A cluster's shared configuration lies in its consensus store, and
Patroni shows it to everybody who asks (`GET /config` wants no login). It is asked at
the address that its own file names, and only if that address is this machine's; over
TLS its certificate is checked against what the file trusts. Whatever goes wrong is a
text. Sources: Patroni's api.py (do_GET_config, do_GET_patroni) and its documentation
of the REST API.
"""

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.config.checks import Machine
from agent.errors import SplitguardError
from agent.transport import Request, Tls, TransportError, request_sync

ANSWER_S = 3.0
EVERYWHERE = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
_LISTEN = re.compile(r"^(\[[^\]]*\]|[^:]*):(\d{1,5})$")
_VERSION = re.compile(r"^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?")


def shared(document: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    """Return the cluster's shared configuration, or None and why it is not known."""
    answer, why = _ask(document, "config")
    if answer is None:
        return None, why
    return answer, ""


def version(document: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the version of the Patroni that runs; None when it does not tell."""
    answer, _ = _ask(document, "patroni")
    told = answer.get("patroni") if answer is not None else None
    text = told.get("version") if isinstance(told, dict) else None
    found = _VERSION.match(text) if isinstance(text, str) else None
    return None if found is None else tuple(int(part or 0) for part in found.groups())


def _ask(
    document: Mapping[str, Any], what: str
) -> tuple[Mapping[str, Any] | None, str]:
    section = document.get("restapi")
    settings = section if isinstance(section, dict) else {}
    host, why = _host(settings.get("listen"))
    if why:
        return None, why
    secure = bool(settings.get("certfile"))
    authority = settings.get("cafile") if secure else None
    tls = Tls(ca=Path(authority)) if isinstance(authority, str) else None
    url = f"{'https' if secure else 'http'}://{host}/{what}"
    try:
        answer = request_sync(Request("GET", url), ANSWER_S, tls=tls)
    except TransportError as error:
        return None, f"Patroni's REST API: {error.message}"
    except SplitguardError:
        return None, "the files that Patroni's REST API trusts cannot be read"
    if not answer.ok:
        return None, f"Patroni's REST API at {host} answers HTTP {answer.status}"
    try:
        plain = json.loads(answer.body)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        return None, f"Patroni's REST API at {host} answers with no configuration"
    return plain, ""


def _host(listen: object) -> tuple[str, str]:
    """Return `host:port` of this machine to ask at, or an empty text and why not."""
    found = _LISTEN.match(listen) if isinstance(listen, str) else None
    if found is None:
        return "", "its file names no restapi.listen"
    name = found[1].strip("[]")
    if name in EVERYWHERE:
        return f"{EVERYWHERE[name]}:{found[2]}", ""
    if not _is_here(name):
        return "", f"restapi.listen = {name} is no address of this machine"
    return f"{found[1]}:{found[2]}", ""


def _is_here(name: str) -> bool:
    """Whether every address of this name is one of this machine's."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    owns = Machine.here().owns
    return bool(found) and all(owns(str(each[4][0])) for each in found)
