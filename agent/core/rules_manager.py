"""The row about a manager whose active node is not PostgreSQL's primary.

Theory of operation. A manager of the 4.x line stands beside its own PostgreSQL and says
whether it is active; only one is, and its database has to be the primary. When the
active one's database is a standby, what clients write there fails, and nobody tells
of it: both servers answer. From 5.0.5 on every manager is active and none of them
stands for a database, so their word means nothing here; nor does it while no manager
says that it is inactive. A handover moves one after the other, in either order;
the hold time waits for that. Source: Cloudify Manager's documentation of HA clusters,
4.5.5.
"""

import re
from collections.abc import Collection

from agent.core.detector import Look, key
from agent.core.observation import Channel, ManagerSight
from agent.core.rule import Finding, Hold, Rule, Scope
from agent.core.scene import Scene
from agent.core.verdict import Family, Severity, VerdictCode

ALL_ACTIVE = (5, 0, 5)
"""From this version on every manager of a cluster is active."""
_NUMBERS = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?").match


def role_mismatch(scene: Scene, node: str) -> Finding | None:
    """Find a manager that says it is active beside a standby."""
    primary = scene.sole_primary
    own = scene.sights.get(node)
    if primary is None or own is None or not own.sight.in_recovery:
        return None
    managers = scene.once("managers", lambda: _managers(scene))
    told = managers.get(node)
    if told is None or not told.active or _every_one_is(told):
        return None
    if all(one.active for one in managers.values()):
        return None  # that any of them can be inactive is not known
    return Finding(
        {
            "primary": primary.node,
            "version": told.version,
            "primary_manager": _in_words(managers.get(primary.node)),
        }
    )


def _managed_standbys(scene: Scene) -> Collection[str]:
    """Return the standbys beside a manager that says it is active."""
    if not scene.policy.has_managers or scene.sole_primary is None:
        return ()
    managers = scene.once("managers", lambda: _managers(scene))
    return [name for name, told in managers.items() if told.active]


def _managers(scene: Scene) -> dict[str, ManagerSight]:
    """Return what the managers say that answer this agent now."""
    latest = scene.state.view.latest
    found: dict[str, ManagerSight] = {}
    for node in scene.policy.nodes:
        seen = latest.get(key(node.name, Channel.MANAGER))
        looked = scene.looks.get((node.name, Channel.MANAGER)) is Look.SEEN
        if looked and seen is not None and seen.manager is not None:
            found[node.name] = seen.manager
    return found


def _every_one_is(told: ManagerSight) -> bool:
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
        about=_managed_standbys,
        hold=Hold.SETTINGS,
    ),
)
