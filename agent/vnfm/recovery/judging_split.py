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
    """Tell who is on which side, as far as that can be seen from here."""
    if world.agent:
        told = f"no agent could be asked: {world.agent}"
        return Seen(ok=False, told=told, hopeless=True)
    split, unseen = world.split, _unseen(world)
    if split is None and not unseen:
        return Seen(
            ok=False,
            told="no split is seen: `splitguard incidents list -a` has those that are"
            " over",
            hopeless=True,
        )
    tips = _tips(world)
    winner = facts.get("chosen", "")
    if split is not None and not winner:
        winner = str(split.evidence.get("winner") or "")
    if winner and winner not in (*tips, *world.primaries, *unseen):
        told = f"{winner} is no side of this split: {', '.join(tips)}"
        return Seen(ok=False, told=told, hopeless=True)
    # From a side that sees no other, nobody can tell who is kept: all of it is.
    losers = [name for name in tips if name != winner and split is not None]
    lines = [split.sentence] if split is not None else []
    lines += [_side_line(world, name) for name in tips]
    lines += [
        f"{name} cannot be seen from here and may accept writes; its own agent keeps"
        " what it writes"
        for name in unseen
    ]
    lines.append(f"kept in the end: {winner or 'nobody can tell yet'}")
    known = {**_learnt(world, facts), "winner": winner, "losers": ",".join(losers)}
    return Seen(ok=True, told="\n".join(lines), facts=known)


def _unseen(world: World) -> tuple[str, ...]:
    return tuple(
        one.name for one in world.nodes if one.role == "unknown" and not one.lsn_known
    )


def _tips(world: World) -> tuple[str, ...]:
    """Return the nodes that stand for a side, as far as they are seen."""
    split = world.split
    if split is None:
        return world.primaries
    return tuple(dict.fromkeys((*split.names("tips"), *split.names("losers"))))


def _side_line(world: World, name: str) -> str:
    node, manager = world.node(name), world.manager(name)
    where = f"timeline {node.timeline} at {node.lsn}" if node else "not seen"
    active = manager is not None and manager.active
    return f"{name}: {where}" + ("; its manager is active" if active else "")


def _learnt(world: World, facts: Facts) -> dict[str, str]:
    """Return what is known of the split by now: it may be over at the next look."""
    tips = [*_names(facts, "tips"), *_tips(world)]
    incidents = [
        *_names(facts, "incident"),
        *(one.incident for one in world.verdicts if one.family == "split"),
    ]
    known = set(incidents)
    tips += [
        one.node
        for one in world.copies
        if one.side == "loser" and known.intersection(one.incidents)
    ]
    return {
        "tips": ",".join(dict.fromkeys(tips)),
        "incident": ",".join(dict.fromkeys(name for name in incidents if name)),
    }


def _names(facts: Facts, key: str) -> tuple[str, ...]:
    return tuple(name for name in facts.get(key, "").split(",") if name)


def copy_of(world: World, node: str, facts: Facts) -> CopySight | None:
    """Return the best snapshot of a losing node: complete before others, then new."""
    incidents = set(_names(_learnt(world, facts), "incident"))
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
    known = _learnt(world, facts)
    wrong = _apart(world)
    if wrong:
        return Seen(ok=False, told=wrong, facts=known)
    kept = world.primaries[0]
    told, wanted = f"{kept} is kept", facts.get("winner", "")
    if wanted and wanted != kept:
        told = f"{kept} was kept, and not {wanted}; what {wanted} has is lost to it"
    losers = [name for name in _names(known, "tips") if name != kept]
    return Seen(
        ok=True,
        told=told,
        facts={
            **known,
            "winner": kept,
            "leader": world.active[0].node,
            "winner_host": facts.get(f"host.{kept}", ""),
            "losers": ",".join(losers),
        },
    )


def _apart(world: World) -> str:
    """Return why there is more than one side, or none, still."""
    active = [one.node for one in world.active]
    if world.is_old and len(active) != 1:
        return f"active managers: {', '.join(active) or 'none'}"
    if not active:
        return "no manager answers"
    unseen = _unseen(world)
    if unseen:
        return f"{', '.join(unseen)} cannot be seen yet"
    primaries = world.primaries
    if len(primaries) != 1:
        return f"PostgreSQL servers that take writes: {', '.join(primaries) or 'none'}"
    if world.is_old and active[0] != primaries[0]:
        return f"{active[0]} is active, and {primaries[0]} is PostgreSQL's primary"
    return ""


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
