"""How a snapshot is put into a manager: looked at first, told, then done.

Theory of operation. A restore replaces what a manager holds (up to 6.4), or is merged
into it (7.x, new format), and a manager says yes to the request in any case: what goes
wrong, only its execution tells. So everything that can be known before is looked up and
said, and what is bound to fail is not begun.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.console import grid, safe, say
from agent.errors import ManagerError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.cli.vnfm_call import ManagerCall, Place
    from agent.vnfm.client import ManagerClient
    from agent.vnfm.records import Execution, ManagerSnapshot, Version


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options say about the restore."""

    force: bool
    certificates: bool
    no_reboot: bool


@dataclass(frozen=True, slots=True)
class Manner:
    """What the options say about the command."""

    yes: bool
    wait: bool
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Before:
    """What there is before the restore."""

    snapshot: "ManagerSnapshot"
    version: "Version"
    holds: Mapping[str, int]
    managers: int


def restore(
    call: "ManagerCall", snapshot: str, wish: Wish, manner: Manner
) -> dict[str, Any]:
    """Restore; return what was begun, or with waiting how it ended.

    Raises ManagerError, ConfigError, typer.BadParameter.
    """
    from agent.cli.vnfm_transfer import check_id
    from agent.cli.vnfm_work import agreed, execution_plain, goes_on, line, through

    check_id(snapshot)
    if wish.no_reboot and not wish.certificates:
        raise typer.BadParameter(
            "it goes with --restore-certificates; without that nothing reboots",
            param_hint="--no-reboot",
        )
    place, before = through(call, _looked(snapshot))
    _tell(call, place, before, wish)
    agreed(f"Restore {snapshot} into {place.name}?", yes=manner.yes)

    async def begin(_: "Place", client: "ManagerClient") -> "Execution":
        from agent.vnfm.client import RestoreOptions

        return await client.restore(
            snapshot,
            RestoreOptions(
                force=wish.force,
                restore_certificates=wish.certificates,
                no_reboot=wish.no_reboot,
            ),
        )

    execution = through(call, begin, place)
    look = line(call, place, "snapshots", "status", snapshot)
    say(f"splitguard: {place.name} restores {snapshot}: execution {execution.id}")
    if not manner.wait:
        say(f"  look at it with: {look}")
    else:
        limit_s = manner.wait_s or call.profile().wait_s
        with goes_on(look):
            execution = through(call, _stay(snapshot, execution, limit_s), place)
        _compare(call, place, before)
    return {
        "manager": place.name,
        "id": snapshot,
        "execution": execution_plain(execution),
    }


def _looked(
    snapshot: str,
) -> "Callable[[Place, ManagerClient], Coroutine[Any, Any, tuple[Place, Before]]]":
    """Return what looks up all that decides how a restore goes."""

    async def look(place: "Place", client: "ManagerClient") -> "tuple[Place, Before]":
        from agent.cli.vnfm_transfer import not_ready

        found = await client.snapshot(snapshot)
        trouble = not_ready(found)
        if trouble is not None:
            raise trouble
        cluster = await client.cluster_status()
        managers = sum(one.kind == "manager" for one in cluster.members)
        return place, Before(
            found, await client.version(), await client.holds(), managers
        )

    return look


def _tell(call: "ManagerCall", place: "Place", before: Before, wish: Wish) -> None:
    """Say what will happen. Raises ManagerError for what is bound to fail."""
    from agent.cli import vnfm_words

    version, holds = before.version, before.holds
    if call.tenant_name is not None:
        say(f"splitguard: {vnfm_words.tenant_of_restore(safe(call.tenant_name))}")
    if vnfm_words.refuses_cluster(version, before.managers):
        raise ManagerError(
            f"{place.name} belongs to a cluster of {before.managers} managers, and one"
            f" of version {version.version} restores only while it is alone",
            "remove the others from the cluster, restore, and join them again as empty"
            " ones: `splitguard recover` leads through it",
        )
    if vnfm_words.fails(version, holds, force=wish.force):
        held = ", ".join(f"{count} {kind}" for kind, count in holds.items() if count)
        raise ManagerError(
            f"{place.name} is not empty ({held}): without --force the execution would"
            " fail there, so it was not begun",
            "restore into an empty manager; or give --force, and all of that is"
            " replaced by the snapshot and lost: make a snapshot of it before"
            " (`splitguard vnfm snapshots create --wait`)",
        )
    for sentence in vnfm_words.restoring(version, place.name, holds, force=wish.force):
        say(f"splitguard: {safe(sentence)}")
    if wish.certificates:
        reboots = "does not reboot" if wish.no_reboot else "reboots when it is done"
        say(
            "splitguard: the snapshot's certificates replace the manager's, and its"
            f" machine {reboots}"
        )


def _stay(
    snapshot: str, execution: "Execution", limit_s: float
) -> "Callable[[Place, ManagerClient], Coroutine[Any, Any, Execution]]":
    async def stay(_: "Place", client: "ManagerClient") -> "Execution":
        from agent.cli.vnfm_progress import waiting
        from agent.vnfm.waiting import until_restored

        with waiting(f"restore of {snapshot}") as stage:
            return await until_restored(client, execution.id, limit_s, stage)

    return stay


def _compare(call: "ManagerCall", place: "Place", before: Before) -> None:
    """Say so where a restore has ended well and restored nothing."""
    from agent.cli import vnfm_words
    from agent.cli.vnfm_work import through

    async def count(_: "Place", client: "ManagerClient") -> Mapping[str, int]:
        try:
            return await client.holds()
        except ManagerError:
            return {}  # it has ended well all the same

    after = through(call, count, place)
    told = vnfm_words.restored(before.version, place.name, before.holds, after)
    for sentence in told:
        say(f"splitguard: {safe(sentence)}")


def table(done: dict[str, Any]) -> "RenderableType":
    """Return it as people read it."""
    from agent.cli.vnfm_work import EXECUTION_HEADERS, execution_row

    return grid(EXECUTION_HEADERS, [execution_row(done["execution"])], ("bold",))
