"""What all managers say of themselves, and what that means together.

Theory of operation. Each manager is asked for its version, its services, its cluster
and its maintenance mode, one request after the other; what one of them does not tell
is left open, and said. The shape is the same whether a manager answered or not.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.cli.console import grid, safe, stacked, words
from agent.cli.vnfm_call import NO_LOGIN_HINT, Place, Profile
from agent.cli.vnfm_door import NOT_ASKED, REFUSED, Door, ask_all, opened
from agent.errors import ConfigError, ManagerError, SplitguardError
from agent.vnfm.records import (
    ClusterStatus,
    Generation,
    Maintenance,
    Member,
    Status,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import RenderableType

KINDS = {"manager": "managers", "db": "databases", "broker": "brokers"}
NOT_ACTIVE = "not_cluster_master"


@dataclass(slots=True)
class Look:
    """What one manager said; None where it said nothing."""

    place: Place
    version: Version | None = None
    status: Status | None = None
    cluster: ClusterStatus | None = None
    maintenance: Maintenance | None = None
    problems: list[str] = field(default_factory=list)
    hint: str = ""
    code: str = ""
    """The manager's or the door's own code of what went wrong."""

    @property
    def answers(self) -> bool | None:
        """Whether it answered at all; None where it was not asked."""
        if self.code == NOT_ASKED:
            return None
        told = self.version is not None or self.status is not None
        return told or self.refused

    @property
    def refused(self) -> bool:
        """Whether it answered that it does not take the login."""
        return self.code == REFUSED

    @property
    def active(self) -> bool | None:
        """Whether it says that it is active; None where it said nothing."""
        return None if self.status is None else self.status.active


@dataclass(frozen=True, slots=True)
class Judged:
    """What the answers mean together."""

    active: list[str]
    wrong: str | None
    """None when somebody is active, and nobody beside whom that may not be."""
    hint: str = ""


async def look(profile: Profile) -> list[Look]:
    """Ask all managers. Raises ConfigError."""
    async with opened(profile) as door:

        async def ask(place: Place) -> Look:
            return await _look(door, place)

        asked = await ask_all(profile.places, ask)
    looks = []
    for one in asked:
        found = one.answer or Look(one.place)
        if one.error is not None:
            found.problems.append(one.error.message)
            found.hint = one.error.hint
            if isinstance(one.error, ManagerError):
                found.code = one.error.code
        looks.append(found)
    return looks


async def _look(door: Door, place: Place) -> Look:
    """Ask one. Raises ManagerError when it does not answer, or refuses the login."""
    client, found = door.client(place, anybody=True), Look(place)
    found.status = await client.status()
    if door.profile.login is None:
        found.problems.append(f"more is told with a login only: {NO_LOGIN_HINT}")
        return found

    async def part(name: str, asked: "Callable[[], Awaitable[Any]]") -> None:
        try:
            setattr(found, name, await asked())
        except ConfigError:
            raise
        except SplitguardError as error:
            code = error.code if isinstance(error, ManagerError) else ""
            if code == REFUSED:
                raise
            if found.active or code != NOT_ACTIVE:
                found.problems.append(f"{name}: {error.message}")

    await part("version", client.version)
    await part("cluster", client.cluster_status)
    if found.status.active:
        await part("maintenance", client.maintenance)
    return found


def judge(looks: list[Look]) -> Judged:
    """Return who is active, and what is wrong with that."""
    active = [one for one in looks if one.active]
    names = [one.place.name for one in active]
    refused = next((one for one in looks if one.refused), None)
    silent = next((one for one in looks if one.problems and not one.answers), None)
    if not active:
        if refused is not None:
            said = f"{refused.place.name} refused the login"
            return Judged(names, f"nobody told who is active: {said}", refused.hint)
        reason = "no manager answers as active"
        if silent is not None:
            return Judged(names, f"{reason}: {silent.problems[0]}", silent.hint)
        return Judged(names, reason, "`splitguard status` says how the cluster is")
    old = [one for one in active if _generation(one) is Generation.ACTIVE_STANDBY]
    if len(old) > 1:
        return Judged(
            names,
            f"{' and '.join(one.place.name for one in old)} both answer as the active"
            " manager",
            "so it is when the cluster is split: `splitguard explain` says what to do",
        )
    return Judged(names, None)


def _generation(one: Look) -> Generation | None:
    if one.version is not None:
        return one.version.generation
    if one.status is not None and one.status.word == NOT_ACTIVE:
        return Generation.ACTIVE_STANDBY  # no other one says that
    return None


def plain(one: Look) -> dict[str, Any]:
    """Return it as JSON has it: always these keys."""
    status, cluster, generation = one.status, one.cluster, _generation(one)
    return {
        "manager": one.place.name,
        "node": one.place.node,
        "url": one.place.url,
        "answers": one.answers,
        "active": one.active,
        "version": one.version.version if one.version else None,
        "edition": (one.version.edition or None) if one.version else None,
        "generation": generation.value if generation else None,
        "status": status.word if status else None,
        "services": [
            {"name": each.name, "running": each.running, "told": each.told}
            for each in (status.services if status else ())
        ],
        "cluster": cluster.status if cluster else None,
        "members": [_member(each) for each in (cluster.members if cluster else ())],
        "maintenance": one.maintenance.status if one.maintenance else None,
        "problems": one.problems,
    }


def _member(each: Member) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "name": each.name,
        "address": each.address,
        "status": each.status,
        "failures": list(each.failures),
    }


def table(looks: list[Look], judged: Judged) -> "RenderableType":
    """Return a line for each manager, its cluster's members below, and what is so."""
    headers = (
        "MANAGER", "ANSWERS", "ACTIVE", "VERSION", "GENERATION", "STATUS", "SERVICES",
        "CLUSTER", "MAINTENANCE",
    )  # fmt: skip
    parts = [grid(headers, map(_row, looks), ("bold",))]
    rows = _members(looks)
    if rows:
        shown = ("CLUSTER", "NAME", "ADDRESS", "STATUS", "SAID BY")
        parts += [words(""), grid(shown, rows)]
    for one in looks:
        parts += [
            words(safe(f"{one.place.name}: {text}"), "yellow") for text in one.problems
        ]
    if judged.wrong:
        parts.append(words(safe(judged.wrong), "bold red"))
        parts.append(words(safe(f"  {judged.hint}")))
    return stacked(*parts)


def _row(one: Look) -> list[object]:
    shown = plain(one)
    return [
        safe(shown["manager"]),
        _answers(one),
        shown["active"],
        safe(shown["version"] or ""),
        shown["generation"],
        safe(shown["status"] or ""),
        _services(one),
        safe(shown["cluster"] or ""),
        safe(shown["maintenance"] or ""),
    ]


def _answers(one: Look) -> object:
    """Return whether it answers, in words where yes and no do not tell."""
    if one.refused:
        return "refused the login"
    return "not asked" if one.answers is None else one.answers


def _services(one: Look) -> str | None:
    services = one.status.services if one.status else ()
    if not services:
        return None
    down = [each.name for each in services if not each.running]
    told = f"{len(services) - len(down)} of {len(services)} run"
    return safe(f"{told}; not: {', '.join(down)}" if down else told)


def _members(looks: list[Look]) -> list[list[object]]:
    """Return each member once, as the first manager that told of it says."""
    seen: dict[tuple[str, str], list[object]] = {}
    for one in looks:
        for each in one.cluster.members if one.cluster else ():
            told = "; ".join((each.status, *each.failures))
            row: list[object] = [
                safe(each.kind),
                safe(each.name),
                safe(each.address),
                safe(told),
                safe(one.place.name),
            ]
            known = seen.setdefault((each.kind, each.name), row)
            if known is not row and known[3] != row[3]:
                seen[(each.kind, f"{each.name} {one.place.name}")] = row
    return list(seen.values())
