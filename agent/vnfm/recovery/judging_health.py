"""The end of a run: what was restored is there, and the cluster is whole.

Theory of operation. Pure, like `judging`. All that is not as it should be is named at
once, each with what the agent says to do about it. A failover that nobody has
acknowledged yet is history and no trouble; it is mentioned, as is every incident that
is not done with. A cluster that is whole is torn down for no `--yes`.
"""

import json

from agent.vnfm.recovery.judging import (
    NO_DATABASE,
    WELL,
    member_of,
    state_of,
    works,
)
from agent.vnfm.recovery.model import Facts
from agent.vnfm.recovery.ports import Seen
from agent.vnfm.recovery.world import IncidentSight, World

COUNTED = ("blueprints", "deployments", "plugins")
_ALERTS = ("warning", "critical")
_FOR_THE_NEXT = ("ready", "keeping")
"""What is not ready for the next trouble; the cluster is whole all the same."""
INCIDENTS_MAX = 5
"""So many are named."""


def restored(world: World, facts: Facts) -> Seen:
    """Hold what the leader has against what the snapshot has."""
    found = world.manager(facts["leader"])
    if found is None or found.holds is None:
        word = found.word if found else ""
        return Seen(
            ok=False, told=f"{facts['leader']} does not tell what it has: {word}"
        )
    wanted = {str(k): int(v) for k, v in json.loads(facts.get("counts", "{}")).items()}
    lines, ok = [], True
    for kind in COUNTED:
        if kind not in wanted:
            continue
        there = found.holds.get(kind, 0)
        lines.append(f"{there} of {wanted[kind]} {kind}")
        ok = ok and there >= wanted[kind]
    if not lines:
        return Seen(ok=True, told="the archive does not tell how much is in it")
    return Seen(ok=ok, told=f"{facts['leader']} has " + ", ".join(lines))


def healthy(world: World, facts: Facts) -> Seen:
    """Prove that the cluster is whole, or name all that is not."""
    wrong = [*_managers_wrong(world, facts), *_databases_wrong(world)]
    if wrong:
        return Seen(ok=False, told="\n".join(wrong))
    lead = ", ".join(one.node for one in world.active)
    first = ", ".join(world.primaries)
    told = f"{lead} active, PostgreSQL's primary {first}, all others stream"
    lines = [f"the cluster is healthy: {told}", *_not_done_with(world)]
    lines += [
        f"to be mended before the next trouble: {one.sentence} {one.next_step}"
        for one in world.verdicts
        if one.family in _FOR_THE_NEXT and one.severity in _ALERTS
    ]
    return Seen(ok=True, told="\n".join(lines))


def torn_down_for(world: World, facts: Facts) -> Seen:
    """See whether anything speaks for tearing the whole cluster down."""
    silent = [one.node for one in world.managers if not one.answers]
    if silent:
        return Seen(ok=True, told=f"not every manager answers: {', '.join(silent)}")
    found = healthy(world, facts)
    calm = not world.agent and world.headline.startswith("healthy:")
    if not found.ok and not (calm and world.active):
        return Seen(ok=True, told=found.told)
    told = "every manager answers"
    told += f", and the agent says {world.headline}" if not world.agent else ""
    if facts.get("though_healthy") == "yes":
        return Seen(ok=True, told=f"{told}; it is wanted all the same")
    return Seen(
        ok=False,
        told=f"{told}: nothing here is to be torn down. If it is wanted all the same,"
        " say it with --though-healthy; --yes does not",
        hopeless=True,
    )


def _not_done_with(world: World) -> list[str]:
    """Return a line for each incident that a person has to look at or take."""
    lines = [_incident_line(one) for one in world.incidents[:INCIDENTS_MAX]]
    if len(world.incidents) > INCIDENTS_MAX:
        more = len(world.incidents) - INCIDENTS_MAX
        lines.append(f"and {more} more incidents: splitguard incidents list -a")
    listed = {one.id for one in world.incidents}
    lines += [
        f"to be acknowledged: {one.verdict} on {one.subject}"
        f" (splitguard incidents ack {one.incident})"
        for one in world.verdicts
        if _is_history(one.verdict) and one.incident and one.incident not in listed
    ]
    return lines


def _incident_line(one: IncidentSight) -> str:
    state = "over, taken by nobody" if one.over else "still open"
    told = f"{state}: {one.verdict} on {one.subject}"
    if one.taken_by:
        return f"{told}, taken by {one.taken_by} (splitguard incidents show {one.id})"
    return (
        f"{told}; look: splitguard incidents show {one.id}; done with it:"
        f" splitguard incidents ack {one.id}"
    )


def _managers_wrong(world: World, facts: Facts) -> list[str]:
    wrong = [
        f"the manager on {one.node} does not answer: {one.word}"
        for one in world.managers
        if not one.answers
    ]
    active = [one.node for one in world.active]
    if world.is_old and len(active) != 1:
        names = ", ".join(active) or "none"
        wrong.append(f"managers that answer as active: {names}, not one")
    for sight in world.active:
        listed = {one.name for one in sight.members}
        wrong += [
            f"{sight.node} does not list {one.node} as a member of its cluster"
            for one in world.managers
            if one.node not in listed
            and member_of(world, one.node, facts) not in listed
        ]
        wrong += [
            f"{sight.node} lists {one.kind} {one.name} as {one.status}"
            + "".join(f"; {failure}" for failure in one.failures)
            for one in sight.members
            if one.status.lower() not in WELL or one.failures
        ]
        if not sight.cluster:
            wrong.append(f"{sight.node} does not tell how its cluster is: {sight.word}")
    return list(dict.fromkeys(wrong))


def _databases_wrong(world: World) -> list[str]:
    if world.agent:
        return [f"no agent could be asked: {world.agent}"]
    primaries = world.primaries
    wrong = []
    if len(primaries) != 1:
        names = ", ".join(primaries) or "none"
        wrong.append(f"PostgreSQL servers that take writes: {names}, not one")
    wrong += [
        f"PostgreSQL on {one.name} is {state_of(one)}"
        for one in world.nodes
        if one.role not in NO_DATABASE and not works(one)
    ]
    wrong += [
        f"{one.verdict} on {one.subject}: {one.sentence} {one.next_step}"
        for one in world.verdicts
        if one.severity in _ALERTS
        and one.family not in _FOR_THE_NEXT
        and not _is_history(one.verdict)
    ]
    return wrong


def _is_history(verdict: str) -> bool:
    """Whether it tells what happened and stays until somebody acknowledges it."""
    return verdict == "failover"
