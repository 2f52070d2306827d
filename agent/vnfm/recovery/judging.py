"""Whether a step's check has passed: the managers and their cluster.

Theory of operation. Pure: the world as it was seen, what the run knows, and out comes
what is so, in words. Nothing is taken for granted: who does not answer is not well, a
cluster that nobody describes is not whole. The words name nodes, because a person acts
on them. What is about a split is in `judging_split`, the end in `judging_health`.
"""

from agent.vnfm.records import Version
from agent.vnfm.recovery.model import Facts
from agent.vnfm.recovery.ports import Seen
from agent.vnfm.recovery.world import ManagerSeen, NodeSight, World

AWAY = ("offline", "fail")
WELL = ("leader", "replica", "ok")
"""What a cluster says of its members, in small letters."""
NO_DATABASE = ("witness", "manager")


def look(world: World, facts: Facts) -> Seen:
    """Say what stands; never fails."""
    lines = [_manager_line(one) for one in world.managers]
    lines += [
        f"PostgreSQL on {one.name}: {one.role}"
        for one in world.nodes
        if one.role not in NO_DATABASE
    ]
    lines.append(world.agent or f"the agent says {world.headline}")
    known = {
        f"member.{one.node}": member_of(world, one.node, facts)
        for one in world.managers
    }
    version = next((one.version for one in world.managers if one.version), "")
    if version:
        known["version"] = version
    return Seen(ok=True, told="\n".join(lines), facts=known)


def _manager_line(one: ManagerSeen) -> str:
    if not one.answers:
        return f"manager on {one.node}: no answer ({one.word})"
    state = f"active, {one.version}" if one.active else f"not active ({one.word})"
    cluster = f", its cluster is {one.cluster}" if one.cluster else ""
    return f"manager on {one.node}: {state}{cluster}"


def member_of(world: World, node: str, facts: Facts) -> str:
    """Return the name that the cluster has for a node's manager."""
    address = facts.get(f"address.{node}", "")
    listed = [
        one
        for sight in world.managers
        for one in sight.members
        if one.kind == "manager"
    ]
    if any(one.name == node for one in listed):
        return node
    by_address = {one.name for one in listed if address and one.address == address}
    return by_address.pop() if len(by_address) == 1 else node


def down_node(world: World, facts: Facts) -> Seen:
    """Find the manager that is down and is not the active one."""
    named = facts.get("named", "")
    down = [one.node for one in world.managers if _is_down(world, one, facts)]
    if world.is_old and not world.active:
        return _never(
            "no manager answers as active",
            "splitguard recover active-down, or whole-cluster where none is left",
        )
    if named and any(one.node == named for one in world.active) and named not in down:
        return _never(f"the manager on {named} is active and answers", "nothing to do")
    return _chosen(world, named, down)


def down_active(world: World, facts: Facts) -> Seen:
    """Find the manager that was active and is down."""
    named = facts.get("named", "")
    down = [one.node for one in world.managers if _is_down(world, one, facts)]
    if not named and len(down) > 1:
        was = {
            str(one.evidence.get("from", ""))
            for one in world.verdicts
            if one.verdict == "failover"
        }
        down = [name for name in down if name in was] or down
    return _chosen(world, named, down)


def _chosen(world: World, named: str, down: list[str]) -> Seen:
    if named and world.manager(named) is None:
        told = f"no manager stands on {named}, and these steps are about managers"
        return _never(told, "for a database alone see `splitguard explain`")
    if named and named not in down:
        return _never(f"the manager on {named} answers and is listed as well", "")
    if not down:
        return _never("every manager answers and is listed as well", "nothing to do")
    if not named and len(down) > 1:
        many = ", ".join(down)
        return _never(f"more than one is down: {many}", "name one of them: --node NODE")
    node = named or down[0]
    return Seen(ok=True, told=f"the manager on {node} is down", facts={"node": node})


def _is_down(world: World, one: ManagerSeen, facts: Facts) -> bool:
    if not one.answers:
        return True
    name = member_of(world, one.node, facts)
    return any(
        member.name == name and member.status.lower() in AWAY
        for sight in world.active
        for member in sight.members
        if member.kind == "manager"
    )


def one_active(world: World, facts: Facts) -> Seen:
    """See whether another manager than the one that is down leads."""
    node = facts.get("node", "")
    active = [one.node for one in world.active if one.node != node]
    if world.is_old and len(active) > 1:
        both = " and ".join(active)
        hint = "splitguard recover split-brain"
        return Seen(ok=False, told=f"{both} are active at once: {hint}")
    if not active:
        return Seen(ok=False, told=f"no other manager than {node} is active yet")
    if not world.is_old and len(world.primaries) != 1 and not world.agent:
        many = ", ".join(world.primaries) or "none"
        return Seen(ok=False, told=f"databases that take writes: {many}, not one")
    leader = active[0]
    others = [one.node for one in world.managers if one.node != leader]
    address = facts.get(f"address.{leader}", "")
    found = world.manager(leader)
    return Seen(
        ok=True,
        told=f"{leader} is active",
        facts={
            "leader": leader,
            "leader_address": address,
            "others": ",".join(others),
            **({"version": found.version} if found and found.version else {}),
        },
    )


def newest(world: World, facts: Facts) -> Seen:
    """See whether the new active one stands on the newest database that is left."""
    if world.agent:
        return Seen(
            ok=False, told=f"no agent tells how far the databases are: {world.agent}"
        )
    stale = [one for one in world.verdicts if one.verdict == "stale-primary"]
    if stale:
        return _never(stale[0].sentence, stale[0].next_step)
    down = facts.get("node", "")
    lead = facts["leader"] if world.is_old else next(iter(world.primaries), "")
    mine = world.node(lead)
    if mine is None or mine.role != "primary":
        return Seen(
            ok=False, told=f"PostgreSQL on {lead or 'no node'} takes no writes yet"
        )
    for other in world.nodes:
        if other.name in (lead, down) or other.role in NO_DATABASE:
            continue
        if (other.timeline or 0) > (mine.timeline or 0) or other.stands == "past":
            return Seen(
                ok=False,
                told=f"{other.name} is past {lead} (timeline {other.timeline} and"
                f" {mine.timeline}): splitguard recover split-brain",
            )
    told = f"{lead} is the primary, on timeline {mine.timeline} at {mine.lsn}"
    return Seen(ok=True, told=f"{told}; nobody that answers is further")


def kept(world: World, facts: Facts) -> Seen:
    """See whether what only the node has that is down is kept."""
    node = facts["node"]
    if is_lost(node, facts):
        return Seen(ok=True, told=f"{node} is given up: --lost")
    if world.agent:
        return Seen(ok=False, told=f"no agent tells what {node} has: {world.agent}")
    sight = world.node(node)
    incidents = {one.incident for one in world.verdicts if one.incident}
    copies = [one for one in world.copies if one.node == node]
    for copy in copies:
        if copy.complete and incidents.intersection(copy.incidents):
            return Seen(
                ok=True,
                told=f"snapshot {copy.id} of {node} is {copy.grade}",
                facts={f"snapshot_of_node.{node}": copy.id},
            )
    if sight is None or not sight.lsn_known or sight.stands == "unknown":
        return Seen(
            ok=False,
            told=f"nobody can read what {node} has: start its agent, or --lost {node}",
        )
    if sight.stands == "on":
        return Seen(ok=True, told=f"{node} has nothing that {facts['leader']} lacks")
    running = next((one for one in copies if one.running), None)
    doing = f"snapshot {running.id}: {running.running}" if running else "none is taken"
    return Seen(ok=False, told=f"{node} has writes that nobody else has; {doing}")


def kept_or_standby(world: World, facts: Facts) -> Seen:
    """See whether the node that is down may hold anything that nobody else has.

    One that was a standby on the line of today's primary when it was last read has
    nothing of its own, as far as anybody can know; one that was the primary before a
    failover, or stands on an older timeline, may.
    """
    node = facts["node"]
    found = kept(world, facts)
    sight = world.node(node)
    lead = world.node(world.primaries[0]) if len(world.primaries) == 1 else None
    if found.ok or sight is None or lead is None or sight.stands == "past":
        return found
    was = {
        str(one.evidence.get("from", ""))
        for one in world.verdicts
        if one.verdict == "failover"
    }
    if node in was:
        told = f"{node} was the primary before the failover: {found.told}"
        return Seen(ok=False, told=told)
    if sight.timeline is None or sight.timeline != lead.timeline:
        return found
    return Seen(
        ok=True,
        told=f"{node} was last seen as a standby on timeline {sight.timeline}, which is"
        f" {lead.name}'s. If its machine still runs, cut off, look there first: it may"
        " have become active by itself",
    )


def back_or_removed(world: World, facts: Facts) -> Seen:
    """See whether the node that was down was mended, or taken out of the cluster."""
    node = facts["node"]
    if _listed(world, facts) is None:
        return _untold(facts)
    if removed(world, facts).ok:
        told = f"{node} is out of the cluster: it is made anew"
        return Seen(ok=True, told=told, facts={"way": "replace", "removed": "yes"})
    back = joined(world, facts)
    if back.ok:
        return Seen(ok=True, told=back.told, facts={"way": "mended"})
    return Seen(ok=False, told=f"neither back nor removed: {back.told}")


def removed(world: World, facts: Facts) -> Seen:
    """See whether the cluster lists the node no more."""
    listed = _listed(world, facts)
    if listed is None:
        return _untold(facts)
    member = facts.get("member", "") or facts["node"]
    if member in listed:
        return Seen(ok=False, told=f"{facts['leader']} still lists {member}")
    told = f"{facts['leader']} does not list {member} any more"
    return Seen(ok=True, told=told, facts={"removed": "yes"})


def torn_down(world: World, facts: Facts) -> Seen:
    """See whether the old manager is gone."""
    found = world.manager(facts["node"])
    if found is None or not found.answers:
        return Seen(ok=True, told=f"the manager on {facts['node']} answers no more")
    if found.empty and (found.alone or not world.is_old):
        return Seen(ok=True, told=f"a fresh manager answers on {facts['node']}")
    if _is_back(world, facts):
        return Seen(ok=True, told=f"{facts['node']} was removed, and is a member again")
    return Seen(ok=False, told=f"the old manager on {facts['node']} still answers")


def installed(world: World, facts: Facts) -> Seen:
    """See whether a fresh manager of the right version stands on the node."""
    node = facts["node"]
    found = world.manager(node)
    if found is None or not found.answers:
        word = found.word if found else "it is not configured"
        return Seen(ok=False, told=f"no manager answers on {node} yet: {word}")
    if _is_back(world, facts):
        return Seen(ok=True, told=f"{node} was removed, and is a member again")
    told = " ".join(f"a manager {found.version} answers on {node}".split())
    wrong = _not_fresh(world, found, facts.get("version", ""))
    return Seen(ok=not wrong, told=f"{told}; {wrong}" if wrong else told)


def _is_back(world: World, facts: Facts) -> bool:
    """Whether a person was quicker than the checks: seen removed, and joined since."""
    return facts.get("removed") == "yes" and joined(world, facts).ok


def _not_fresh(world: World, found: ManagerSeen, wanted: str) -> str:
    """Return what speaks against its being the manager that is waited for."""
    if not found.version:
        return f"it tells no version: {found.word}"
    if wanted and Version(wanted).numbers[:2] != Version(found.version).numbers[:2]:
        return f"it should be {wanted}"
    if not world.is_old:
        return ""
    if not found.alone:
        return "it belongs to a cluster already"
    return "" if found.empty is True else "it is not empty"


def started(world: World, facts: Facts) -> Seen:
    """See whether the leader has begun a cluster."""
    leader = facts["leader"]
    found = world.manager(leader)
    if found is None or not found.active:
        return Seen(ok=False, told=f"the manager on {leader} is not active")
    if found.alone or not any(one.status == "leader" for one in found.members):
        return Seen(ok=False, told=f"the manager on {leader} belongs to no cluster yet")
    return Seen(ok=True, told=f"{leader} leads a cluster")


def joined(world: World, facts: Facts) -> Seen:
    """See whether the node is a member, and well."""
    node = facts["node"]
    listed = _listed(world, facts)
    if listed is None:
        return _untold(facts)
    member = facts.get("member", "") or node
    status = listed.get(member, listed.get(node, ""))
    if status.lower() not in WELL:
        return Seen(
            ok=False, told=f"{facts['leader']} lists {node} as {status or 'no member'}"
        )
    sight = world.node(node)
    if sight is not None and sight.role not in NO_DATABASE and not works(sight):
        return Seen(
            ok=False, told=f"{node} is a member; its PostgreSQL is {state_of(sight)}"
        )
    return Seen(ok=True, told=f"{node} is a member ({status})")


def works(one: NodeSight) -> bool:
    """Whether a PostgreSQL takes writes, or streams from one that does."""
    return one.role == "primary" or (one.role == "standby" and bool(one.upstream))


def state_of(one: NodeSight) -> str:
    """Return in words what a PostgreSQL does."""
    if one.role == "standby":
        return "a standby that does not stream"
    return {"unknown": "not seen"}.get(one.role, one.role)


def _listed(world: World, facts: Facts) -> dict[str, str] | None:
    """Return the status of each manager by the leader's list; None: it tells none."""
    found = world.manager(facts.get("leader", ""))
    if found is None or not found.members:
        return None
    return {one.name: one.status for one in found.members if one.kind == "manager"}


def _untold(facts: Facts) -> Seen:
    leader = facts.get("leader", "no manager")
    return Seen(ok=False, told=f"{leader} does not tell who belongs to its cluster")


def is_lost(node: str, facts: Facts) -> bool:
    """Whether a person said that the node's machine is gone."""
    return node in facts.get("lost", "").split(",")


def _never(told: str, what_to_do: str) -> Seen:
    text = f"{told}: {what_to_do}" if what_to_do else told
    return Seen(ok=False, told=text, hopeless=True)
