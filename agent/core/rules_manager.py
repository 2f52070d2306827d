"""The rows about managers that say they are active where only one may be.

Theory of operation. A manager of the 4.x line stands beside its own PostgreSQL and says
whether it is active; only one is, and its database has to be the primary. When the
active one's database is a standby, what clients write there fails, and nobody tells
of it: both servers answer. When two say that they are active and no database tells
which of them may be, each takes what clients send; in a split that is on record the
databases tell it, and the split says more. From 5.0.5 on every manager is active and
none of them stands for a database, so their word means nothing here; nor does it while
neither a version nor a manager that says it is inactive shows which line this is. A
handover moves one after the other, in either order; the hold time waits for that.
Source: Cloudify Manager's documentation of HA clusters, 4.5.5.
"""

import re
from collections.abc import Collection, Mapping

from agent.core.care import ManagerSight
from agent.core.detector import Look, key
from agent.core.observation import Channel
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.standing import living
from agent.core.verdict import Family, Severity, VerdictCode

ALL_ACTIVE = (5, 0, 5)
"""From this version on every manager of a cluster is active."""
_NUMBERS = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?").match


def role_mismatch(scene: Scene, node: str) -> Finding | None:
    """Find a manager that says it is active beside a standby."""
    managers = _of_one_line(scene)
    told = managers.get(node)
    primary = scene.sole_primary
    if primary is None or told is None or not _beside_standby(scene, node):
        return None
    return Finding(
        {
            "primary": primary.node,
            "version": told.version,
            "primary_manager": _in_words(managers.get(primary.node)),
        }
    )


def two_active(scene: Scene, node: str) -> Finding | None:
    """Find two managers of which both say that they are active, and nothing else."""
    managers = _of_one_line(scene)
    told = managers.get(node)
    if told is None or not told.active or _in_split(scene):
        return None
    rivals = [
        name
        for name, one in managers.items()
        if one.active and name != node and not _beside_other(scene, name)
    ]
    if not rivals or _beside_other(scene, node):
        return None
    return Finding({"rivals": ", ".join(rivals), "version": told.version})


def _beside_other(scene: Scene, node: str) -> bool:
    """Whether it is beside a standby, or a database that is of another system.

    One that was just installed is active for itself; another row names its database.
    """
    own, ours = scene.sights.get(node), scene.system_id
    strange = own is not None and ours not in (None, own.sight.system_id)
    return strange or _beside_standby(scene, node)


def _beside_standby(scene: Scene, node: str) -> bool:
    """Whether a manager says that it is active beside a standby of the primary."""
    told, own = _of_one_line(scene).get(node), scene.sights.get(node)
    if told is None or not told.active or own is None or scene.sole_primary is None:
        return False
    return own.sight.in_recovery


def _in_split(scene: Scene) -> bool:
    """Whether a split is on record, or about to be: it names both sides."""
    if len(scene.writable) > 1:
        return True
    return any(one.verdict.family is Family.SPLIT for one in living(scene.state))


def _acting(scene: Scene) -> Collection[str]:
    """Return the nodes whose manager says that it is active."""
    if not scene.policy.has_managers:
        return ()
    return [name for name, told in _of_one_line(scene).items() if told.active]


def _of_one_line(scene: Scene) -> Mapping[str, ManagerSight]:
    """Return what managers say that are known to be of the 4.x line; else nothing."""
    return scene.once("managers of 4.x", lambda: _divided(scene, _managers(scene)))


def _divided(
    scene: Scene, managers: Mapping[str, ManagerSight]
) -> Mapping[str, ManagerSight]:
    told = [numbers_of(one.version or "") for one in managers.values()]
    care = scene.state.view.care
    if care is not None:
        told.append(numbers_of(care.version))
    known = [one for one in told if one is not None]
    if any(one >= ALL_ACTIVE for one in known):
        return {}
    if known or not all(one.active for one in managers.values()):
        return managers
    return {}


def _managers(scene: Scene) -> dict[str, ManagerSight]:
    """Return what the managers say that answer this agent now."""
    latest = scene.state.view.latest
    found: dict[str, ManagerSight] = {}
    for node in scene.policy.nodes:
        seen = latest.get(key(node.name, Channel.MANAGER))
        looked = scene.looks.get((node.name, Channel.MANAGER)) is Look.SEEN
        if not looked or seen is None or seen.manager is None or seen.manager.silent:
            continue
        found[node.name] = seen.manager
    return found


def every_one_is(told: ManagerSight) -> bool:
    """Whether a manager is of a version of which every one is active."""
    numbers = numbers_of(told.version or "")
    return numbers is not None and numbers >= ALL_ACTIVE


def numbers_of(version: str) -> tuple[int, ...] | None:
    """Return a version's first three numbers; None where it begins with none."""
    found = _NUMBERS(version)
    return None if found is None else tuple(int(one or 0) for one in found.groups())


def _in_words(told: ManagerSight | None) -> str:
    if told is None:
        return "does not answer"
    return "says that it is active too" if told.active else "says that it is not active"


ROWS = (
    Rule(
        871,
        VerdictCode.ROLE_MISMATCH,
        Family.ROLE,
        Severity.CRITICAL,
        Scope.NODES,
        "A manager says that it is active beside a standby.",
        role_mismatch,
        about=_acting,
        hold=Hold.SETTINGS,
    ),
    Rule(
        873,
        VerdictCode.ROLE_MISMATCH,
        Family.ROLE,
        Severity.CRITICAL,
        Scope.NODES,
        "Two managers say that they are active, and no database tells which may be.",
        two_active,
        about=_acting,
        hold=Hold.SETTINGS,
    ),
)
