"""When the manager beside this agent is to be asked, and to take a snapshot.

Theory of operation. A manager's snapshot holds what a copy of its database does not:
the archives of blueprints and plugins, and its keys. So on evidence of a split every
side that accepts writes, and has a manager beside it, has one taken: one for each
incident. But a manager writes rows when it takes one, and at every login. On a side
that is cut off this would itself push a clean server past the fork; so there it is
asked nothing until commits lie past the last position that another node has confirmed,
as for a full copy (see `protection`). What fails is tried again later and later, and
then no more.

A manager without a database beside it (5.0.5 and later) writes to whichever server
leads where it stands. There the first manager in the list that answers takes the
snapshot, on proof of a split only: nobody beside it can tell whether its side is clean.
"""

from collections.abc import Iterable

from agent.core.care import (
    KeptBrief,
    ManagerCare,
    ManagerMember,
    ManagerOrder,
    Tried,
)
from agent.core.incident import Incident
from agent.core.moment import Moment
from agent.core.observation import Channel, Observation, Outcome
from agent.core.policy import Policy
from agent.core.protection import PROVEN, written_past
from agent.core.rules_manager import ALL_ACTIVE, numbers_of
from agent.core.standing import local_writable, standing
from agent.core.state import State
from agent.core.verdict import VerdictCode

__all__ = [
    "KeptBrief",
    "ManagerCare",
    "ManagerMember",
    "ManagerOrder",
    "Tried",
    "first_answering",
    "looks_allowed",
    "takes_scheduled",
    "wanted",
    "writing_harmless",
]

DOUBTED = (VerdictCode.OBSERVER_ISOLATED, VerdictCode.SPLIT_BRAIN_SUSPECTED)
"""While one of these stands, a clean server must stay clean."""
TRIES_MAX = 6
"""A snapshot for one incident is tried so often, over about an hour."""
RETRY_S = 60.0
"""The pause after the first failure; it doubles with each further one."""
ANSWERS = (Outcome.ANSWERED, Outcome.REFUSED)


def wanted(state: State, monotonic_s: float, policy: Policy) -> ManagerOrder | None:
    """Return the snapshot that the manager here should take now; None for none.

    Never while one is being made, nor after the manager has refused the login. Whether
    there is a login at all, and protecting is switched on, is for the caller to see.
    """
    care = state.view.care or ManagerCare()
    if care.running or care.refused_login or _passive(state, care, policy):
        return None
    calling = [
        one for one in standing(state) if _calls(state, one, monotonic_s, policy)
    ]
    if not calling or not _is_mine(state, monotonic_s, policy):
        return None
    kept = {name for one in care.kept if one.good for name in one.incident_ids}
    open_ids = [one.id for one in calling if one.id not in kept]
    offset_s = state.view.offset_s
    if offset_s is None or not _due(care, open_ids, monotonic_s + offset_s):
        return None
    reasons = dict.fromkeys(one.verdict.code.value for one in calling)
    return ManagerOrder(tuple(one.id for one in calling), ", ".join(reasons))


def looks_allowed(state: State, monotonic_s: float, policy: Policy) -> bool:
    """Whether the manager here may be asked with a login now, which writes a row.

    Not before this agent has looked around, and not on a side that may be cut off and
    has written nothing which others lack. A manager that is late may be asked all the
    same: with its brokers dead it takes seconds to say so.
    """
    verdicts = state.view.verdicts
    if not verdicts or any(one.evidence.get("starting") for one in verdicts):
        return False
    if _doubted(state):
        return writing_harmless(state, policy)
    return _is_there(state.view.latest.get(_place(policy.me)), monotonic_s, policy)


def writing_harmless(state: State, policy: Policy) -> bool:
    """Whether one row more, as each login writes, does no harm here now.

    It does on a side that may be cut off and has written nothing that others lack: also
    in the middle of a snapshot that was begun before, and when a person asks for one.
    """
    if not _doubted(state):
        return True
    return local_writable(state, policy) and written_past(state, policy)


def takes_scheduled(state: State, policy: Policy, now: Moment) -> bool:
    """Whether the scheduled snapshot is this agent's to take.

    Of the 4.x line that is whose own manager says that it is active, while no other one
    that can be reached does; later the first of the list whose manager answers.
    """
    if not policy.spec(policy.me).has_manager:
        return False
    if not looks_allowed(state, now.monotonic_s, policy):
        return False
    version = _version(state, policy)
    if version is not None and version >= ALL_ACTIVE:
        return _first(state, now.monotonic_s, policy, policy.order)
    if not _says_active(state, policy.me, now.monotonic_s, policy):
        return False
    others = (one.name for one in policy.nodes if one.name != policy.me)
    return not any(
        _says_active(state, name, now.monotonic_s, policy) for name in others
    )


def _doubted(state: State) -> bool:
    codes = {one.code for one in state.view.verdicts}
    return not codes.isdisjoint(DOUBTED) and codes.isdisjoint(PROVEN)


def _calls(state: State, incident: Incident, now_s: float, policy: Policy) -> bool:
    """Whether this incident calls for a snapshot of the side that is here."""
    code = incident.verdict.code
    if incident.clear_since_s is not None:
        return False
    has_server = policy.spec(policy.me).has_postgres
    if code in PROVEN:
        return local_writable(state, policy) if has_server else True
    if code not in DOUBTED or not has_server:
        return False
    if now_s - incident.pending_since_s < policy.isolation_hold_s:
        return False
    own = code is not VerdictCode.OBSERVER_ISOLATED
    if not own and incident.verdict.subject != policy.me:
        return False
    return local_writable(state, policy) and written_past(state, policy)


def _is_mine(state: State, now_s: float, policy: Policy) -> bool:
    """Whether it is for this agent's manager, which answers, to take it."""
    spec = policy.spec(policy.me)
    if not spec.has_manager:
        return False
    if spec.has_postgres:
        return _answers(state.view.latest.get(_place(policy.me)), now_s, policy)
    apart = [one.name for one in policy.nodes if not one.has_postgres]
    return _first(state, now_s, policy, apart)


def first_answering(state: State, now: Moment, policy: Policy) -> str | None:
    """Return the first node of the list whose manager answers this agent now."""
    return _first_of(state, now.monotonic_s, policy, policy.order)


def _first(state: State, now_s: float, policy: Policy, names: Iterable[str]) -> bool:
    """Whether the manager here is the first of these that answers this agent."""
    return _first_of(state, now_s, policy, names) == policy.me


def _first_of(
    state: State, now_s: float, policy: Policy, names: Iterable[str]
) -> str | None:
    latest = state.view.latest
    return next(
        (one for one in names if _answers(latest.get(_place(one)), now_s, policy)), None
    )


def _due(care: ManagerCare, names: list[str], wall_s: float) -> bool:
    """Whether a snapshot for one of these may be tried now."""
    tried = {one.incident_id: one for one in care.tried}
    for name in names:
        last = tried.get(name)
        if last is None:
            return True
        passed_s = wall_s - last.last_wall_s
        waits = 0 <= passed_s < RETRY_S * 2 ** (last.times - 1)
        if last.times < TRIES_MAX and not waits:
            return True
    return False


def _passive(state: State, care: ManagerCare, policy: Policy) -> bool:
    """Whether the manager here says that it is not the active one."""
    seen = state.view.latest.get(_place(policy.me))
    if seen is not None and seen.manager is not None and not seen.manager.silent:
        return not seen.manager.active
    return care.active is False


def _says_active(state: State, node: str, now_s: float, policy: Policy) -> bool:
    seen = state.view.latest.get(_place(node))
    if seen is not None and seen.manager is not None and not seen.manager.silent:
        return seen.manager.active and _answers(seen, now_s, policy)
    care = state.view.care
    if node != policy.me or care is None or not _answers(seen, now_s, policy):
        return False
    return care.active is True


def _is_there(seen: Observation | None, now_s: float, policy: Policy) -> bool:
    """Whether a manager was not found to be gone lately."""
    if seen is None or seen.outcome is Outcome.UNREACHABLE:
        return False
    return now_s - seen.received_s <= policy.fresh_s


def _answers(seen: Observation | None, now_s: float, policy: Policy) -> bool:
    """Whether a manager has answered this agent lately."""
    if seen is None or seen.outcome not in ANSWERS:
        return False
    return now_s - seen.received_s <= policy.fresh_s


def _version(state: State, policy: Policy) -> tuple[int, ...] | None:
    """Return the version of the manager here, as far as anybody was told."""
    care = state.view.care
    seen = state.view.latest.get(_place(policy.me))
    told = care.version if care is not None else ""
    if not told and seen is not None and seen.manager is not None:
        told = seen.manager.version or ""
    return numbers_of(told)


def _place(node: str) -> str:
    return f"{node}/{Channel.MANAGER}"
