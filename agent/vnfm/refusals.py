"""A manager's refusals in words: what is so, why, and what to do.

Theory of operation. A refusal is mostly JSON with `error_code` and `message`, and
sometimes not: nginx answers in HTML, a 304 is empty. The code chooses the advice; the
manager's own sentence is quoted, as one bounded printable line without addresses'
passwords. Of its traceback only the line that names the error is read, where the
message says nothing (7.x): the rest can quote what was sent.
Source: `manager_exceptions.py` of the REST service, 4.5.5 to 7.1, and what real
managers answered.
"""

import json
import re
from collections.abc import Callable, Mapping

from agent.errors import ManagerError
from agent.transport import Answer, DeadlineError, TransportError
from agent.vnfm.login import UNAUTHORIZED, Login
from agent.vnfm.records import Execution, ExecutionStatus

KILL = "splitguard vnfm executions kill"
"""The command that ends an execution; its id follows."""
STALL_S = 45.0
"""So long a manager whose database is a standby holds each request."""
NOT_ACTIVE = ("not_cluster_master", "removed_from_cluster")
TEXT_MAX = 300
_READ_ONLY = "read-only transaction"
_TITLE = re.compile(rb"<title>(.{1,200}?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(rb"<[^>]{0,500}>")
_ADDRESS = re.compile(r"(//)(?:[^/@\s]{1,300}@)?([^/?#\s]{1,300})[/?#][^\s]*")
_USER = re.compile(r"//[^/@\s]{1,300}@")
_GATEWAY = (502, 504)
_TOO_LARGE = 413
INTERNAL = "internal_server_error"
TRACE_MAX = 64 * 1024
_KILL_LINE = re.compile(rf"{re.escape(KILL)} (?!ID\b)[\w-]{{1,64}}")
# Such as `sqlalchemy.exc.InternalError: …`; what was sent stands in lines below it.
_ERROR_LINE = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception): .+)$", re.MULTILINE)

_HINTS: dict[str, str] = {
    "conflict_error": "choose another id, or delete the one that is there; nothing was"
    " changed",
    "existing_running_execution_error": "wait until that has ended, or ask for it to"
    " be queued; if it hangs, end it:"
    f" {KILL} ID",
    "illegal_action_error": "a 4.x cluster takes no restore: restore on one manager by"
    " itself, then start the cluster there and let the others join",
    "not_cluster_master": "ask the manager that is active; `splitguard vnfm status`"
    " says which one is",
    "removed_from_cluster": "this manager is no part of the cluster any more: install"
    " it anew and let it join, or ask another one",
    "unsupported_content_type_error": "something between here and the manager changed"
    " the Content-Type, which must be application/json and nothing else",
    "SSL_REQUIRED": "write its address with https:// under [[nodes]] manager",
    "maintenance_mode_active": "it is in maintenance mode: end that with `cfy"
    " maintenance-mode deactivate` once its work there is done",
    "entering_maintenance_mode": "it is about to enter maintenance mode and waits for"
    " running work; try again when it has entered it",
    "in_snapshot_restore_error": "a snapshot is being restored there: wait for that",
    "missing_cloudify_license": "a premium manager works only with a license: upload it"
    " with `cfy license upload FILE`",
    "expired_cloudify_license": "its license has run out: upload a new one with `cfy"
    " license upload FILE`",
    "missing_premium_package_error": "the community edition cannot do that",
}


class OrphanError(ManagerError):
    """A refusal that left work behind, which blocks what comes later until killed."""

    def __init__(self, error: ManagerError, orphan: Execution) -> None:
        work = f"the execution {orphan.id} ({orphan.workflow}, {orphan.status.value})"
        if orphan.status is ExecutionStatus.STARTED:
            # Only the answer was lost: to kill a restore half-way would leave half.
            left = f"{error.message}; {work} goes on there all the same"
            hint = (
                "wait for it (`splitguard vnfm executions list`), and begin nothing"
                f" anew before; only if it hangs: {KILL} {orphan.id}"
            )
        else:
            left = f"{error.message}; it left {work}, which blocks other work until it"
            left += " is killed"
            hint = f"{KILL} {orphan.id}"
        super().__init__(left, hint, status=error.status, code=error.code)
        self.orphan = orphan


def with_kill(error: ManagerError) -> str:
    """Return what went wrong with the command that ends what hangs, if one does."""
    ends = _KILL_LINE.findall(error.hint)
    if not ends or ends[-1] in error.message:
        return error.message
    return f"{error.message}; if it hangs, end it: {ends[-1]}"


def kill_in(text: str) -> str:
    """Return the command in a text that ends an execution; empty without one."""
    return next(iter(_KILL_LINE.findall(text)), "")


def line(text: str, limit: int = TEXT_MAX) -> str:
    """Return a text of the manager's as one bounded printable line.

    Of addresses in it only host and port stay: the rest can hold a password.
    """
    shown = "".join(c if c.isprintable() else " " for c in text[: limit * 4])
    words = _ADDRESS.sub(r"\1\2/…", " ".join(shown.split()))
    return _USER.sub("//", words)[:limit]


def object_of(answer: Answer) -> dict[str, object] | None:
    """Return the JSON object that was answered; None when it is none."""
    try:
        plain = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def code_of(answer: Answer) -> str:
    """Return the manager's own error code; empty when it gave none."""
    code = (object_of(answer) or {}).get("error_code")
    return line(code, 80) if isinstance(code, str) else ""


def refusal(
    answer: Answer, place: str, what: str, login: Login | None = None
) -> ManagerError:
    """Return the error for an answer that is not what `what` had asked for.

    `what` is what was tried, in words: "restore snapshot a".
    """
    plain = object_of(answer) or {}
    code, said = code_of(answer), plain.get("message")
    words = line(said) if isinstance(said, str) else _not_json(answer)
    reason = _reason(plain)
    if reason and reason not in words:
        # From 7 on the message of an error that nobody foresaw is always the same.
        words = reason
    hint = _hint(answer, code, words, login)
    message = f"{place}: cannot {what}: HTTP {answer.status}"
    if code:
        message += f" {code}"
    return ManagerError(
        f"{message}: {words}" if words else message,
        hint,
        status=answer.status,
        code=code,
    )


def unanswered(error: TransportError, place: str, what: str) -> ManagerError:
    """Return the error for a request that got no answer."""
    reason = error.message.removeprefix(f"{place}: ")
    hint = error.hint
    if isinstance(error, DeadlineError):
        hint = (
            "a manager holds requests for 45 s while its database is a standby, and"
            " for minutes while its RabbitMQ does not answer: look at both there"
        )
    elif "TLS failed" in reason:
        hint = (
            "name who signed the manager's certificate under [vnfm] ca, such as its"
            " /etc/cloudify/ssl/cloudify_internal_ca_cert.pem, and compare https://"
            " with http://"
        )
    elif not hint:
        hint = "is the machine up, and its port 80 or 443 open from here?"
    return ManagerError(f"{place}: cannot {what}: {reason}", hint)


def _hint(answer: Answer, code: str, words: str, login: Login | None) -> str:
    for applies, advice in _SPECIAL:
        if applies(answer, code, words):
            return advice(login)
    if code in _HINTS:
        return _HINTS[code]
    if answer.status in _GATEWAY:
        return "nginx answers there and its REST service does not: is it starting?"
    if answer.status == _TOO_LARGE:
        return (
            "nginx there takes no body of that size (client_max_body_size): have the"
            " manager fetch the archive from an address instead"
        )
    if not code and answer.body and object_of(answer) is None:
        return "is that address a manager's, and nothing in between?"
    return ""


def _for_login(login: Login | None) -> str:
    if login is None:
        return "it wants a login: name [vnfm] password_file or token_file"
    if login.token:
        return (
            "the token has run out or was dropped (in 4.x and 5.x it lasts ten hours):"
            " make a new one and"
            f" {_anew('it', login.source or '[vnfm] token_file')}; it is not tried"
            " again until then"
        )
    return (
        f"user {login.username}'s password is wrong, or the account is locked; it is"
        " not tried again, because four wrong ones lock it:"
        f" {_anew('the right one', login.source or '[vnfm] password_file')}"
    )


def _anew(what: str, source: str) -> str:
    """Return what to do about a login: to give it where the refused one came from."""
    if source.startswith("--"):
        return f"give {what} by {source}"
    return f"put {what} into {source}"


def _for_tenant(login: Login | None) -> str:
    name = login.tenant if login is not None else ""
    source = login.tenant_source if login is not None else ""
    one = "one that `cfy tenants list` names"
    if source:
        return f"give {one} by {source}, now {name!r}"
    return f"set [vnfm] tenant, now {name!r}, to {one}"


def _says(text: str) -> Callable[[Login | None], str]:
    return lambda _: text


_SPECIAL: tuple[
    tuple[Callable[[Answer, str, str], bool], Callable[[Login | None], str]], ...
] = (
    (lambda a, c, _: a.status == 401 or c == UNAUTHORIZED, _for_login),  # noqa: PLR2004
    (lambda _a, c, w: c == "forbidden_error" and "tenant" in w
     and "not permitted" not in w, _for_tenant),
    (lambda _a, c, w: c == "forbidden_error" and "not permitted" in w, _says(
        "snapshots want a system administrator (role sys_admin)")),
    (lambda _a, _c, w: _READ_ONLY in w, _says(
        "this manager's database is a standby: it holds each request for 45 s and then"
        " fails; ask the manager that has the primary, and ask this one rarely")),
    (lambda a, c, _: a.status == 500 and c == INTERNAL, _says(  # noqa: PLR2004
        "look whether its PostgreSQL answers, and into"
        " /var/log/cloudify/rest there")),
    (lambda _a, c, w: c == "snapshot_action_error" and "active" in w, _says(
        f"wait until that has ended; if it hangs, end it: {KILL} ID")),
    (lambda _a, c, w: c == "snapshot_action_error" and "Failed" in w, _says(
        "there is nothing in it: delete it and make a new one")),
    (lambda _a, c, w: c == "not_found_error" and "Snapshot" in w, _says(
        "ids are listed by `splitguard vnfm snapshots list`; a snapshot is seen in its"
        " own tenant only")),
)  # fmt: skip


def _reason(plain: Mapping[str, object]) -> str:
    """Return the line of the traceback that names the error; empty without one."""
    trace = plain.get("server_traceback")
    if plain.get("error_code") != INTERNAL or not isinstance(trace, str):
        return ""
    return last_error(trace)


def last_error(trace: str, limit: int = TEXT_MAX) -> str:
    """Return the line of a traceback that names its error; empty where none does."""
    found = _ERROR_LINE.findall(trace[-TRACE_MAX:])
    return line(found[-1], limit) if found else ""


def _not_json(answer: Answer) -> str:
    """Return what an answer says that is no JSON of the manager's."""
    if not answer.body:
        return "an empty answer"
    found = _TITLE.search(answer.body[:8192])
    text = found.group(1) if found else _TAG.sub(b" ", answer.body[:8192])
    kind = line(answer.headers.get("content-type", "").partition(";")[0], 40)
    words = line(text.decode("utf-8", "replace"), 150)
    return f"{words} ({kind or 'no content type'}, where JSON belongs)"
