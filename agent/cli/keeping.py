"""`splitguard snapshots pin|unpin|delete`: what people decide about a snapshot.

Theory of operation. The agent does it, because it knows which incidents are settled
and which permits rest on a snapshot. When it does not answer, or with --dir, the
folder is changed here; then nobody can say whether an incident is settled, so a
snapshot that is bound to one is not removed unless that is forced.
"""

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import bytes_text, safe, say, words
from agent.cli.which import Dir, Id, catalogue_of, check_id, not_asked, refuse_elsewhere
from agent.errors import AgentUnreachableError, SnapshotError, SplitguardError

Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("pin")(asks_agent(pin))
    app.command("unpin")(asks_agent(unpin))
    app.command("delete")(asks_agent(delete))


def pin(call: Call, snapshot: Id, *, reason: Reason, folder: Dir = None) -> int:
    """Keep a snapshot from being pruned, until it is unpinned."""
    from agent.snapshot import marks

    def here(place: Path) -> None:
        marks.keep(place, marks.Kept(me(), reason, now_s()))

    check_id(snapshot)
    if not reason.strip():
        raise typer.BadParameter("needs words that say why", param_hint="--reason")
    question = {"reason": reason, "who": me()}
    path = f"/v1/snapshots/{segment(snapshot)}/pin"
    _decided(call, (snapshot, folder), lambda: call.agent.post(path, question), here)
    say(f"splitguard: {safe(snapshot)} is kept: {safe(reason)}")
    return 0


def unpin(call: Call, snapshot: Id, *, folder: Dir = None) -> int:
    """Keep a snapshot no longer than the retention says."""
    from agent.snapshot import marks

    path = f"/v1/snapshots/{segment(check_id(snapshot))}/pin"
    _decided(
        call, (snapshot, folder), lambda: call.agent.delete(path, {}), marks.release
    )
    say(f"splitguard: {safe(snapshot)} is not pinned")
    return 0


def delete(
    call: Call,
    snapshot: Id,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although something needs it; see --reason."),
    ] = False,
    reason: Reason = "",
    folder: Dir = None,
) -> int:
    """Remove a snapshot for good.

    Refused while it is pinned, while an incident of it is open or was never
    acknowledged, and while a permit rests on it, unless --force and --reason are given.
    """
    check_id(snapshot)
    if force and not reason.strip():
        raise typer.BadParameter("needs a --reason", param_hint="--force")
    query = {"force": str(force).lower(), "reason": reason, "who": me()}
    found = _decided(
        call,
        (snapshot, folder),
        lambda: call.agent.delete(f"/v1/snapshots/{segment(snapshot)}", query),
        lambda _: _removed(call, (snapshot, folder), reason, force=force),
    )
    for each in found["overruled"]:
        say(f"splitguard: overruled: {safe(each)}")
    call.out.data(found, lambda: words(f"{safe(found['id'])} is removed"))
    return 0


def _decided(
    call: Call,
    which: tuple[str, Path | None],
    ask: Callable[[], dict[str, Any]],
    here: Callable[[Path], Any],
) -> Any:  # noqa: ANN401 - what either of them gives
    """Let the agent do it, or do it in the folder where it does not answer."""
    snapshot, folder = which
    if folder is None:
        try:
            return ask()
        except AgentUnreachableError as error:
            not_asked(call, error)
        except SplitguardError:
            refuse_elsewhere(call, snapshot)
            raise
    return here(catalogue_of(call, folder).folder(snapshot))


def _removed(
    call: Call, which: tuple[str, Path | None], reason: str, *, force: bool
) -> dict[str, Any]:
    from agent.snapshot import marks
    from agent.snapshot.removal import remove
    from agent.snapshot.retention import Bond, holds, in_work

    snapshot, folder = which
    catalogue = catalogue_of(call, folder)
    place, manifest = catalogue.folder(snapshot), catalogue.show(snapshot)
    bond = Bond(
        manifest.id,
        manifest.closed,
        manifest.incident_ids,
        marks.settled(place),
        marks.kept(place),
    )
    reasons = holds(bond, None)
    if in_work(bond, None):
        reasons = (*reasons, "its capture was not finished, and an agent may go on")
    if reasons and not force:
        raise SnapshotError(
            f"snapshot {snapshot} is still needed: {'; '.join(reasons)}",
            f"ask the agent; or give --force --reason TEXT"
            f" to lose {bytes_text(manifest.size_bytes)}",
        )
    remove(catalogue, snapshot, me(), reason, now_s())
    return {
        "id": snapshot,
        "who": me(),
        "reason": reason,
        "overruled": list(reasons),
    }


def now_s() -> float:
    """Return the time, in seconds since 1970."""
    from agent.daemon.clock import SystemClock

    return SystemClock().moment().wall_s


def me() -> str:
    """Return who gives the command, as the system knows."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"user {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} ({name})" if behind else name
