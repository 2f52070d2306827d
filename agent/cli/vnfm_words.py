"""Options that a manager's version does not know: said, and not passed on.

Theory of operation. The guide's options come from several versions. A manager ignores
a key that it does not know, so whoever gives such an option would believe that it had
an effect. Pure: versions in, options and sentences out.
Source: Cloudify Manager's REST service and command line, 4.1 to 7.1.
"""

from collections.abc import Mapping

from agent.vnfm.options import CreateOptions
from agent.vnfm.records import Generation, Version

MERGES_FIRST = (7, 0)
"""The first version with snapshots that are merged into what the manager holds."""
LEGACY_LOST = (
    "the community edition takes a legacy snapshot for one of the new format: the"
    " execution ends as terminated, and nothing is restored"
)
_UNKNOWN = {
    "include_metrics": (
        "--include-metrics", "after 4.6 a manager has no metrics to put into a snapshot"
    ),
    "queue": ("--queue", "managers queue snapshots from 4.5 on"),
}  # fmt: skip


def not_passed_on(options: CreateOptions, version: Version) -> tuple[str, ...]:
    """Return why some of these options are not sent to a manager of this version."""
    notes = []
    for key in options.unknown_to(version):
        option, why = _UNKNOWN.get(key, (key, "it came with a later version"))
        notes.append(
            f"{option} is not passed on: this manager is {version.version}, and {why}"
        )
    return tuple(notes)


def tenant_of_restore(tenant: str) -> str:
    """Return what a tenant's name does in a restore."""
    return (
        f"--tenant-name {tenant} is not passed on: a snapshot holds all tenants, and no"
        " version restores a single one; it is the tenant whose list of snapshots is"
        " asked"
    )


def restoring(
    version: Version, name: str, holds: Mapping[str, int], *, force: bool
) -> tuple[str, ...]:
    """Return what a restore will do to this manager, one sentence each."""
    told = f"{name} ({version.version})"
    held = ", ".join(f"{count} {kind}" for kind, count in holds.items() if count)
    if version.numbers[:2] >= MERGES_FIRST:
        merged = (
            f"a snapshot of the new format is merged into what {told} holds"
            f" ({held or 'nothing'}), with or without --force"
        )
        legacy = (
            "a legacy one replaces all of it"
            if force or not held
            else "a legacy one fails without --force, and changes nothing"
        )
        told_of_all = f"{merged}; {legacy}"
        return (told_of_all, LEGACY_LOST) if _loses_legacy(version) else (told_of_all,)
    if held and force:
        return (f"everything that {told} holds now ({held}) is replaced and lost",)
    return (f"{told} is empty, and gets what the snapshot holds",)


def restored(
    version: Version, name: str, before: Mapping[str, int], after: Mapping[str, int]
) -> tuple[str, ...]:
    """Return what must be said of a restore that has ended well, so it says."""
    if not _loses_legacy(version) or before != after:
        return ()
    held = ", ".join(f"{count} {kind}" for kind, count in after.items())
    return (f"{name} holds what it held before ({held}): {LEGACY_LOST}",)


def _loses_legacy(version: Version) -> bool:
    return version.edition == "community" and version.numbers[:2] >= MERGES_FIRST


def fails(version: Version, holds: Mapping[str, int], *, force: bool) -> bool:
    """Whether a restore is bound to fail because something is there already."""
    old = version.numbers[:2] < MERGES_FIRST
    return old and not force and any(holds.values())


def refuses_cluster(version: Version, managers: int) -> bool:
    """Whether a restore is refused because the cluster has several managers."""
    return version.generation is Generation.ACTIVE_STANDBY and managers > 1
