"""What only several values together, or the machine itself, can get wrong.

Theory of operation. The checks work on the plain values as they came, not on the
finished settings: so a typing error in one place does not hide a duplicate in
another, and a person mends everything at once. A value of a wrong type is skipped
here, because it was found by the model already.
"""

import contextlib
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config import forms
from agent.config.lines import Path as KeyPath
from agent.config.problems import Problem

Plain = Mapping[str, Any]

FILE_KEYS = (
    ("tls", "ca"),
    ("tls", "cert"),
    ("tls", "key"),
    ("auth", "peer_token_file"),
    ("auth", "tokens_file"),
    ("offsite", "credentials_file"),
    ("vnfm", "password_file"),
    ("vnfm", "token_file"),
    ("vnfm", "ca"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the configuration must know of the machine that it is read on."""

    host_name: str
    owns: Callable[[str], bool]
    """Whether a numeric address is one of this machine's."""

    @classmethod
    def here(cls) -> "Machine":
        """Return the machine that this runs on."""
        return cls(socket.gethostname(), _owns)


def _owns(address: str) -> bool:
    """Whether the kernel lets a socket take this address: it is ours if so."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except (OSError, ValueError):
        return False
    return True


def check_all(plain: Plain) -> list[Problem]:
    """Return every problem that shows only when values are seen together."""
    return [
        *_duplicate_names(plain),
        *_shared_addresses(plain),
        *_listen(plain),
        *_channels(plain),
        *_routes(plain),
        *_durations(plain),
    ]


def check_files(plain: Plain) -> list[Problem]:
    """Return a problem for each named file that is missing or may not be read."""
    named: list[tuple[KeyPath, object]] = [
        (path, _at(plain, path)) for path in FILE_KEYS
    ]
    for number, channel in tables(plain, "channels"):
        named += [
            (("channels", number, key), channel.get(key))
            for key in ("url_file", "secret_file")
        ]
    return [
        Problem(path, reason, value)
        for path, value in named
        if isinstance(value, str) and value.startswith("/")
        if (reason := _unreadable(Path(value)))
    ]


def find_me(plain: Plain, machine: Machine) -> tuple[str | None, list[Problem]]:
    """Return which node this machine is, or the problem."""
    names = list(dict.fromkeys(name for _, name in _names(plain)))
    given = plain.get("node")
    if not names or not isinstance(given, str | None):
        return None, []  # a problem of its own, found elsewhere
    if given in names:
        return given, []
    if given is not None:
        near = forms.did_you_mean(given, names)
        text = f"not in the list of nodes ({', '.join(names)}){near}"
        return None, [Problem(("node",), text, given)]
    called = {machine.host_name, machine.host_name.partition(".")[0]}
    mine = sorted(called & set(names)) or sorted(_members_here(plain, machine))
    if len(mine) == 1:
        return mine[0], []
    found = f"could be each of {', '.join(mine)}" if mine else "is none of the nodes"
    text = (
        f'this machine (host name "{machine.host_name}") {found} by name and address;'
        f' set node = "…" (one of {", ".join(names)}) or SPLITGUARD_NODE'
    )
    return None, [Problem(("node",), text)]


def tables(plain: Plain, key: str) -> Iterator[tuple[int, Plain]]:
    """Yield number and content of each table of an array."""
    array = plain.get(key)
    if isinstance(array, list):
        for number, table in enumerate(array):
            if isinstance(table, dict):
                yield number, table


def _at(plain: Plain, path: KeyPath) -> object:
    value: object = plain
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _names(plain: Plain) -> list[tuple[KeyPath, str]]:
    return [
        ((key, number, "name"), table["name"])
        for key in ("nodes", "witnesses")
        for number, table in tables(plain, key)
        if isinstance(table.get("name"), str)
    ]


def _duplicate_names(plain: Plain) -> Iterator[Problem]:
    channels = [
        (("channels", number, "name"), table["name"])
        for number, table in tables(plain, "channels")
        if isinstance(table.get("name"), str)
    ]
    for named, kind in ((_names(plain), "node"), (channels, "channel")):
        seen: set[str] = set()
        for path, name in named:
            if name in seen:
                text = f"a second {kind} of this name; every name may stand once"
                yield Problem(path, text, name)
            seen.add(name)


def _shared_addresses(plain: Plain) -> Iterator[Problem]:
    """Yield servers that stand under two names: one would be judged twice."""
    owners: dict[object, str] = {}
    for key in ("nodes", "witnesses"):
        for number, table in tables(plain, key):
            owner = str(table.get("name", f"{key}[{number + 1}]"))
            for field in ("agent", "postgres", "manager"):
                address = _address(field, table.get(field))
                if address is None:
                    continue
                other = owners.setdefault((field, address), owner)
                if other != owner:
                    text = (
                        f"{other} has the same address; each node needs its own,"
                        " or one machine would be counted twice"
                    )
                    yield Problem((key, number, field), text, table[field])


def _address(field: str, value: object) -> object:
    """Return what two values have in common when they lead to one server."""
    if not isinstance(value, str):
        return None
    if field == "postgres":
        server = forms.server_of(value)
        return server if server[0] else None
    try:
        return forms.url(value).lower()
    except ValueError:
        return None


def _listen(plain: Plain) -> Iterator[Problem]:
    value = plain.get("listen")
    if not isinstance(value, str):
        return
    with contextlib.suppress(ValueError):
        host, _ = forms.split_listen(value)
        if forms.is_loopback(host):
            return
        tls, auth = _at(plain, ("tls", "cert")), _at(plain, ("auth",))
        lacks = [] if tls else ["cert and key in [tls]"]
        if not isinstance(auth, dict) or not auth:
            lacks.append("peer_token_file (and tokens_file) in [auth]")
        if lacks:
            text = (
                f"reachable from other machines, so it needs {' and '.join(lacks)};"
                " or listen on 127.0.0.1"
            )
            yield Problem(("listen",), text, value)


def _channels(plain: Plain) -> Iterator[Problem]:
    tls = _at(plain, ("tls",))
    if isinstance(tls, dict) and bool(tls.get("cert")) != bool(tls.get("key")):
        there, absent = ("cert", "key") if tls.get("cert") else ("key", "cert")
        yield Problem(("tls", there), f"{absent} is missing; give both or neither")
    for number, channel in tables(plain, "channels"):
        given = [key for key in ("url", "url_file") if channel.get(key)]
        if not given:
            yield Problem(("channels", number), "no receiver; give url or url_file")
        elif len(given) > 1:
            yield Problem(("channels", number, "url_file"), "url is set too; give one")


def _routes(plain: Plain) -> Iterator[Problem]:
    channels = {str(table.get("name")) for _, table in tables(plain, "channels")}
    subjects = {name for _, name in _names(plain)} | forms.RESERVED_NAMES
    for number, route in tables(plain, "routes"):
        for key, known, kind in (
            ("channels", channels, "channel"),
            ("node", subjects, "node"),
        ):
            for word in _words(route.get(key)):
                if word not in known:
                    near = forms.did_you_mean(word, known)
                    text = f"no {kind} of this name{near}"
                    yield Problem(("routes", number, key), text, word)


def _words(value: object) -> list[str]:
    """Return the words of a key that takes one word or a list of them."""
    given = value if isinstance(value, list) else [value]
    return [word for word in given if isinstance(word, str)]


def _durations(plain: Plain) -> Iterator[Problem]:
    probe = _at(plain, ("probe",))
    given = probe if isinstance(probe, dict) else {}
    key = "deadline_s" if "deadline_s" in given else "round_s"
    round_s, deadline_s = given.get("round_s", 1.0), given.get("deadline_s", 0.8)
    if not isinstance(round_s, int | float) or not isinstance(deadline_s, int | float):
        return
    if deadline_s > round_s > 0:
        text = f"deadline_s ({deadline_s:g}) must not be above round_s ({round_s:g})"
        yield Problem(("probe", key), text, given.get(key))


def _unreadable(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        user = f"user id {os.geteuid()}"
        return f"cannot read this file as {user}: {error.strerror}; mend path or mode"
    return ""


def _members_here(plain: Plain, machine: Machine) -> set[str]:
    """Return the members one of whose addresses is this machine's."""
    hosts: dict[str, set[str]] = defaultdict(set)
    for key in ("nodes", "witnesses"):
        for _, table in tables(plain, key):
            name = table.get("name")
            if isinstance(name, str):
                hosts[name] |= _hosts(table)
    return {
        name
        for name, found in hosts.items()
        if any(
            host == machine.host_name
            or (not forms.is_loopback(host) and machine.owns(host))
            for host in found
        )
    }


def _hosts(table: Plain) -> set[str]:
    hosts = {forms.server_of(str(table.get("postgres", "")))[0]}
    for key in ("agent", "manager"):
        with contextlib.suppress(ValueError):
            hosts.add(forms.host_of(str(table.get(key, ""))))
    return hosts - {""}
