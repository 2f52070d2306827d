"""Whether a step's check has passed: who is on which side, and what is kept of it.

Theory of operation. Pure, like `judging`. The agent proves the split and names the
sides; until it does, or while a node cannot be seen, nobody here guesses who loses. An
incident may end while the run goes on, so what was seen of it stays in the facts.
"""

from agent.vnfm.recovery.judging import is_lost
from agent.vnfm.recovery.model import Facts
from agent.vnfm.recovery.ports import Seen
from agent.vnfm.recovery.world import CopySight, World


def sides(world: World, facts: Facts) -> Seen:
    """Tell who is on which side."""
    if world.agent:
        return Seen(
            ok=False, told=f"no agent could be asked: {world.agent}", hopeless=True
        )
    split = world.split
    if split is None:
        return _none_seen(world)
    tips = tuple(dict.fromkeys((*split.names("tips"), *split.names("losers"))))
    winner = facts.get("chosen", "") or str(split.evidence.get("winner") or "")
    if winner and winner not in tips and winner not in world.primaries:
        told = f"{winner} is no side of this split: {', '.join(tips)}"
        return Seen(ok=False, told=told, hopeless=True)
    losers = [name for name in tips if name != winner]
    if not losers or len(tips) < 2:  # noqa: PLR2004 - a split has two sides
        return Seen(ok=False, told=f"only one side can be seen: {split.sentence}")
    lines = [split.sentence]
    for name in tips:
        node, manager = world.node(name), world.manager(name)
        where = f"timeline {node.timeline} at {node.lsn}" if node else "not seen"
        says = "its manager is active" if manager and manager.active else ""
        lines.append(f"{name}: {where}" + (f"; {says}" if says else ""))
    kept = winner or "nobody can tell yet"
    lines.append(f"kept: {kept}; lost to the cluster: {', '.join(losers)}")
    return Seen(
        ok=True,
        told="\n".join(lines),
        facts={
            "winner": winner,
            "tips": ",".join(tips),
            "losers": ",".join(losers),
            "incident": split.incident,
        },
    )


def _none_seen(world: World) -> Seen:
    unseen = [one.name for one in world.nodes if one.role == "unknown" and not one.seen]
    if unseen:
        names = ", ".join(unseen)
        return Seen(
            ok=False,
            told=f"no split is seen from here, and {names} cannot be seen at all: it"
            " may be the other side. Its own agent keeps what it writes; mend the"
            " network, or run this where both sides are seen",
        )
    return Seen(
        ok=False,
        told="no split is seen: `splitguard incidents list -a` has those that are over",
        hopeless=True,
    )


def copy_of(world: World, node: str, facts: Facts) -> CopySight | None:
    """Return the best snapshot of a losing node: complete before others, then new."""
    incidents = {facts.get("incident", "")}
    incidents |= {one.incident for one in world.verdicts if one.family == "split"}
    incidents.discard("")
    found = [
        one
        for one in world.copies
        if one.node == node and incidents.intersection(one.incidents)
    ]
    return next((one for one in found if one.complete), next(iter(found), None))


def captured(world: World, facts: Facts) -> Seen:
    """See whether what a losing node holds is kept."""
    node = facts["node"]
    if is_lost(node, facts):
        return Seen(ok=True, told=f"{node} is given up: --lost")
    if world.agent:
        return Seen(ok=False, told=f"no agent could be asked: {world.agent}")
    copy = copy_of(world, node, facts)
    if copy is None:
        return Seen(
            ok=False,
            told=f"no snapshot of {node} is known here; there: `snapshots list`",
        )
    bare = [
        one
        for one in world.verdicts
        if one.verdict == "unprotected" and one.subject == node
    ]
    if not copy.complete or bare:
        why = bare[0].sentence if bare else copy.running or copy.grade
        return Seen(
            ok=False, told=f"snapshot {copy.id} of {node} is not complete: {why}"
        )
    return Seen(
        ok=True,
        told=f"snapshot {copy.id} of {node} is {copy.grade}",
        facts={f"snapshot_of_node.{node}": copy.id},
    )


def met(world: World, facts: Facts) -> Seen:
    """See whether one side is left."""
    if world.agent:
        return Seen(ok=False, told=f"no agent could be asked: {world.agent}")
    active = [one.node for one in world.active]
    if world.is_old and len(active) != 1:
        return Seen(ok=False, told=f"active managers: {', '.join(active) or 'none'}")
    if not active:
        return Seen(ok=False, told="no manager answers")
    if len(world.primaries) != 1:
        names = ", ".join(world.primaries) or "none"
        return Seen(ok=False, told=f"PostgreSQL servers that take writes: {names}")
    kept = world.primaries[0]
    if world.is_old and active[0] != kept:
        return Seen(
            ok=False, told=f"{active[0]} is active, and {kept} is PostgreSQL's primary"
        )
    told, wanted = f"{kept} is kept", facts.get("winner", "")
    if wanted and wanted != kept:
        told = f"{kept} was kept, and not {wanted}; what {wanted} has is lost to it"
    tips = facts.get("tips", "").split(",")
    losers = [name for name in tips if name and name != kept]
    return Seen(
        ok=True,
        told=told,
        facts={
            "winner": kept,
            "leader": active[0],
            "winner_host": facts.get(f"host.{kept}", ""),
            "losers": ",".join(losers),
        },
    )


def follows(world: World, facts: Facts) -> Seen:
    """See whether a losing node streams from the line that is kept."""
    node, winner = facts["node"], facts["winner"]
    if world.agent:
        return Seen(ok=False, told=f"no agent could be asked: {world.agent}")
    mine, best = world.node(node), world.node(winner)
    if mine is None or best is None or mine.role != "standby" or not mine.upstream:
        role = mine.role if mine else "not seen"
        return Seen(ok=False, told=f"PostgreSQL on {node}: {role}, and does not stream")
    if mine.timeline != best.timeline or mine.stands == "past":
        return Seen(
            ok=False,
            told=f"{node} is on timeline {mine.timeline}, {winner} on {best.timeline}",
        )
    return Seen(ok=True, told=f"{node} follows {mine.upstream} on {mine.timeline}")
