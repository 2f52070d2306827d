"""A snapshot onto a manager: uploaded, restored, waited for.

Theory of operation. Before 5.0.5 a restore is refused by a cluster with a second node,
and a legacy archive on a manager that is not empty fails in its execution, after a
friendly 200: both are looked at first. What is begun is noted with its id, so that an
interrupted run waits for that and begins nothing twice. Done is what the execution says
and nothing else. An archive under our id that an interrupted upload has left is taken
away and sent again; one that others put there is never touched.
Source: Cloudify Manager's restore, 4.5.5 to 7.1.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.errors import ManagerError
from agent.vnfm.client import ManagerClient, Progress, RestoreOptions
from agent.vnfm.records import ExecutionStatus, Generation, Version
from agent.vnfm.recovery.model import Facts
from agent.vnfm.recovery.ports import Note, Seen
from agent.vnfm.refusals import OrphanError
from agent.vnfm.waiting import Stage, until_restored

LEGACY = "legacy"
NOT_FOUND = 404
POLL_S = 2.0
YES = "yes"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a restore may take, and who hears how far it is."""

    wait_s: float
    stage: Stage | None = None


async def plan(client: ManagerClient, facts: Facts) -> str:
    """Say what a restore would do to what is there."""
    if not facts.get("archive_format"):
        return ""
    try:
        held = await client.holds()
    except ManagerError:
        return ""
    has = ", ".join(f"{count} {kind}" for kind, count in held.items())
    legacy = facts["archive_format"] == LEGACY
    does = "replaces all that is there" if legacy else "is added to what is there"
    return f"a snapshot in the {facts['archive_format']} format {does}: {has}"


async def upload(
    client: ManagerClient, facts: Facts, note: Note, told: Progress | None
) -> Seen:
    """Send the archive under its id. Raises ManagerError."""
    snapshot_id = facts["snapshot"]
    if facts.get("uploading") == snapshot_id and await _has(client, snapshot_id):
        await client.delete(snapshot_id)  # what an interrupted upload has left
    note({"uploading": snapshot_id})
    made = await client.upload(snapshot_id, Path(facts["archive"]), told)
    return Seen(ok=True, told=f"{made.id} is {made.status.value} at {client.place}")


async def _has(client: ManagerClient, snapshot_id: str) -> bool:
    try:
        await client.snapshot(snapshot_id)
    except ManagerError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return True


async def restore(
    client: ManagerClient, facts: Facts, note: Note, patience: Patience
) -> Seen:
    """Restore it, or wait for the restore that was begun. Raises ManagerError."""
    begun = facts.get("restoring", "")
    if begun and await _goes_on(client, begun):
        done = await until_restored(client, begun, patience.wait_s, patience.stage)
        return Seen(ok=True, told=f"execution {done.id} has ended well")
    await _check(client, facts)
    certificates = facts.get("restore_certificates") == YES
    options = RestoreOptions(
        force=facts.get("force") == YES,
        restore_certificates=certificates,
        # This run still needs the manager; the person reboots it afterwards.
        no_reboot=certificates,
    )
    try:
        execution = await client.restore(facts["snapshot"], options)
    except OrphanError as error:
        if error.orphan.status is ExecutionStatus.STARTED:
            note({"restoring": error.orphan.id})  # the next run waits for it
        raise
    note({"restoring": execution.id})
    done = await until_restored(client, execution.id, patience.wait_s, patience.stage)
    reboot = "; reboot it for its certificates" if certificates else ""
    return Seen(ok=True, told=f"execution {done.id} has ended well{reboot}")


async def _goes_on(client: ManagerClient, execution_id: str) -> bool:
    """Whether a restore that was begun has not failed."""
    try:
        found = await client.execution(execution_id)
    except ManagerError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return found.status not in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


async def _check(client: ManagerClient, facts: Facts) -> None:
    """Raise ManagerError where the manager would refuse, or fail afterwards."""
    version = await client.version()
    archive = Version(facts.get("archive_version", "") or version.version)
    if archive.numbers[:2] > version.numbers[:2]:
        raise ManagerError(
            f"the snapshot is of version {archive.version}, {client.place} of"
            f" {version.version}: only an equal or newer manager takes it",
            "install managers of that version, or name another one with --snapshot",
        )
    if version.generation is Generation.ACTIVE_STANDBY:
        members = (await client.cluster_status()).members
        if len(members) > 1:
            raise ManagerError(
                f"{client.place} has {len(members)} nodes in its cluster: managers of"
                " 4.x restore only while they stand alone",
                "remove the other nodes from the cluster first; they join afterwards",
            )
    if facts["archive_format"] == LEGACY and facts.get("force") != YES:
        await _check_empty(client)


async def _check_empty(client: ManagerClient) -> None:
    try:
        held = await client.holds()
    except ManagerError:
        return  # it does not tell; then the execution says it
    if any(held.values()):
        has = ", ".join(f"{count} {kind}" for kind, count in held.items() if count)
        raise ManagerError(
            f"{client.place} is not empty: {has}; a restore REPLACES all of it",
            "if that is meant, run this again with --force; it goes on here",
        )


async def maintenance(client: ManagerClient, wait_s: float, *, wanted: bool) -> Seen:
    """Enter or leave maintenance mode, and wait until it is so. Raises ManagerError."""
    found = await client.set_maintenance(wanted)
    state = "activated" if wanted else "deactivated"
    until_s = client.clock.moment().monotonic_s + wait_s
    while found.status != state:
        if client.clock.moment().monotonic_s > until_s:
            raise ManagerError(
                f"{client.place} is {found.status}; {found.remaining} executions run",
                "wait for them or cancel them, and run this again; it goes on here",
            )
        await client.clock.sleep(POLL_S)
        found = await client.maintenance()
    return Seen(ok=True, told=f"maintenance mode is {found.status}")
