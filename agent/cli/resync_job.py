"""What `splitguard resync` works with: the agent, the configuration, the source.

Theory of operation. The agent tells who wins and gives the permit. Host and port of the
source are those of its node in the configuration; the role is the one of [resync],
since the probe's may neither copy nor read files. A password never goes on: it would
show in the list of processes.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.call import Call, segment
from agent.cli.client import RefusedError
from agent.cli.console import safe, say
from agent.cli.guard import folder_id
from agent.core.lsn import Lsn
from agent.core.resync import Wish
from agent.errors import ConfigError, GuardError, PostgresError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.guard.resync_job import Job
    from agent.guard.resync_look import Standing
    from agent.guard.resync_mark import Notes
    from agent.guard.resync_server import Local
    from agent.postgres.owner import Owner

WAIT_S = 2.0
MARGIN_S = 10.0
ROUND_S = 1.0
ROUNDS = 5
CONFLICT = 409
POSTGRES_PORT = "5432"
PASSING = frozenset({"granted", "released"})
_OF_THE_PROBE = frozenset(
    {"user", "password", "passfile", "dbname", "application_name", "options",
     "target_session_attrs", "sslcert", "sslkey", "sslpassword"}
)  # fmt: skip
"""What belongs to the probe's role and not to the server."""


def tell(text: str) -> None:
    """Say what happens, to the person who waits."""
    say(f"splitguard: {safe(text)}")


class AgentGate:
    """Implements resync_look.Gate with the agent on this machine."""

    def __init__(self, call: Call, node: str, forced: str | None) -> None:
        self._agent = call.agent
        self._node = node
        self._purpose = "resync" if forced is None else f"resync, forced: {forced}"
        self.data_dir = Path()
        self.source = ""

    def standing(self) -> "Standing":
        """Ask what is so. Raises AgentUnreachableError."""
        from agent.guard.resync_look import Standing

        status = self._judged()
        alone = isolation(status)
        if alone is not None:
            raise GuardError(
                f"the agent here is isolated, and cannot know who else accepts writes"
                f" or was promoted: {safe(alone)}",
                f"mend the network first; once `splitguard status` on {self._node} sees"
                " the other nodes, run this again",
            )
        nodes = [one for one in status["nodes"] if one["name"] == self._node]
        lsn = nodes[0]["lsn"] if nodes else None
        return Standing(
            line=line_of(status),
            told_twin=self._loses(status, "lineage-twin"),
            diverged=self._loses(status, "lineage-diverged"),
            lsn=Lsn.parse(lsn) if lsn else None,
        )

    def _judged(self) -> dict[str, Any]:
        """Return the status once it says who is kept, or after a few rounds anyhow.

        A second primary is seen some rounds before the agent can judge between the two.
        """
        status: dict[str, Any] = self._agent.get("/v1/status")
        for _ in range(ROUNDS):
            if len(line_of(status)) == 1 or isolation(status) is not None:
                break
            time.sleep(ROUND_S)
            status = self._agent.get("/v1/status")
        return status

    def _loses(self, status: dict[str, Any], verdict: str) -> bool:
        return any(
            one["verdict"] == verdict
            and self._node in str(one["evidence"].get("losers", "")).split(",")
            for one in status["verdicts"]
        )

    def permit(self) -> str:
        """Ask for a permit, say what it waits for, and return its id."""
        question = {
            "purpose": self._purpose[:200],
            "node": self._node,
            "data_dir_id": folder_id(self.data_dir),
            **({"source": self.source} if self.source else {}),
        }
        tell("asking the agent for a permit")
        answer = self._asked(question)
        told = ""
        while answer["state"] == "pending":
            if answer["reason"] != told:
                told = answer["reason"]
                tell(f"pending: {told}")
            answer = self._ask(str(answer["id"]), WAIT_S)
        tell(f"{answer['state']}: {answer['reason']}")
        if answer["state"] not in PASSING:
            raise GuardError(
                f"no permit: {answer['reason']}", "run this once more: it goes on"
            )
        return str(answer["id"])

    def _asked(self, question: dict[str, str]) -> dict[str, Any]:
        """Enter the request.

        The agent reads the folder once a round: right after the old data was put back
        it may know another one there, or none.
        """
        for _ in range(ROUNDS):
            try:
                return self._agent.post("/v1/guard/permits", question)
            except RefusedError as error:
                if error.status != CONFLICT:
                    raise
            time.sleep(WAIT_S)
        return self._agent.post("/v1/guard/permits", question)

    def holds(self, permit_id: str) -> bool:
        """Whether that permit still lets a resync pass."""
        return self._ask(permit_id, 0.0)["state"] in PASSING

    def _ask(self, permit_id: str, wait_s: float) -> dict[str, Any]:
        path = f"/v1/guard/permits/{segment(permit_id)}"
        return self._agent.get(path, {"wait": wait_s}, deadline_s=wait_s + MARGIN_S)


def isolation(status: dict[str, Any]) -> str | None:
    """Return in words that the agent here is cut off; None when it is not."""
    for one in status["verdicts"]:
        if one["verdict"] == "observer-isolated":
            return str(one["sentence"])
    return None


def line_of(status: dict[str, Any]) -> tuple[str, ...]:
    """Return whose line is kept: several while nobody can tell, none when none is seen.

    As predicted while the cluster is split, else the primaries.
    """
    for one in status["verdicts"]:
        winner = one["evidence"].get("winner")
        if one["family"] == "split" and isinstance(winner, str):
            return (winner,)
    return tuple(one["name"] for one in status["nodes"] if one["role"] == "primary")


def make_job(
    call: Call,
    node: str,
    source: str | None,
    wish: Wish,
    gate: AgentGate,
    *,
    forced: bool,
) -> "Job":
    """Gather the means. Raises ConfigError, GuardError, PostgresError."""
    from agent.daemon.clock import SystemClock
    from agent.guard.resync_job import Job
    from agent.guard.resync_look import Loser, Server
    from agent.guard.resync_mark import Notes
    from agent.postgres.discovery import local_dsn
    from agent.postgres.owner import owner_of

    settings = call.settings()
    clock = SystemClock()
    data_dir = _data_dir(settings, node)
    notes = Notes(settings.state_dir)
    aside = _aside(data_dir, notes)
    owner = owner_of(data_dir if data_dir.exists() else aside or data_dir.parent)
    _right_user(owner)
    gate.data_dir = data_dir
    local = _local(settings, data_dir, aside, owner, notes.folder)
    name, parts = _source(settings, node, source, gate)
    host = parts.get("hostaddr") or parts.get("host", "")
    gate.source = f"{host}:{parts.get('port', POSTGRES_PORT)}" if host else ""
    own = settings.node_settings(node).postgres
    asked = settings.local.dsn or local_dsn(
        data_dir, settings.local.socket_dir, "splitguard_local"
    )
    if own is None and asked is None:
        raise ConfigError(
            (f"node {node} has no postgres: nobody could ask it whether it follows",),
            "give its connection string, nodes.postgres",
        )
    follow = settings.resync.follow
    return Job(
        node=node,
        local=local,
        loser=Loser(data_dir, local.programs.bin_dir, own or asked or "", owner),
        source=Server(name, _text(parts), owner),
        source_parts=parts,
        follow_parts=None if follow is None else _parse(follow),
        local_dsn=asked,
        notes=notes,
        wish=wish,
        forced=forced,
        now_s=lambda: clock.moment().monotonic_s,
    )


def _data_dir(settings: "Settings", node: str) -> Path:
    if node != settings.me:
        names = [each.name for each in settings.nodes]
        if node not in names:
            raise ConfigError((f"there is no node {safe(node)}",), ", ".join(names))
        raise GuardError(
            f"this machine is {settings.me}, not {node}",
            f"run it on the machine of {node}",
        )
    if settings.local.data_dir is not None:
        return settings.local.data_dir
    from agent.cli.guard_install import running_data_dir

    found = running_data_dir(settings)
    if found is None:
        raise GuardError(
            "which data directory is meant is not known: its server does not run",
            "set local.data_dir in the configuration",
        )
    return found


def _right_user(owner: "Owner") -> None:
    """Refuse who is neither root nor the owner of the data directory."""
    me = os.geteuid()
    if me == 0 and owner.uid == 0:
        raise PostgresError(
            "the data directory belongs to root, as whom PostgreSQL does not run",
            "give it to the server's user (chown)",
        )
    if me not in (0, owner.uid):
        raise PostgresError(
            f"the data directory belongs to {owner.name}",
            f"run this as root or as {owner.name}",
        )


def _aside(data_dir: Path, notes: "Notes") -> Path | None:
    """Return where an interrupted clone has put the old data. Raises GuardError.

    What is left in its place may have neither an owner nor a version.
    """
    from agent.guard import resync_aside
    from agent.postgres.owner import acting_as, owner_of

    try:
        owner = owner_of(notes.folder)
    except PostgresError:
        return None  # no run has written there yet, or a later step says why not
    with acting_as(owner):
        mark = notes.read()
    if mark is None or mark.data_dir != str(data_dir):
        return None
    if not mark.suffix.startswith(resync_aside.SUFFIX) or "/" in mark.suffix:
        return None
    place = resync_aside.place_of(data_dir, mark.suffix)
    return place if place.is_dir() else None


def _local(
    settings: "Settings",
    data_dir: Path,
    aside: Path | None,
    owner: "Owner",
    folder: Path,
) -> "Local":
    from agent.guard.resync_server import Local
    from agent.postgres.programs import find_programs

    bin_dir = settings.local.bin_dir
    places = (data_dir, aside) if aside is not None else (data_dir,)
    known = next((each for each in places if (each / "PG_VERSION").exists()), None)
    return Local(
        data_dir=data_dir,
        programs=find_programs(bin_dir, known),
        owner=owner,
        log=folder / "server.log",
        start_command=settings.resync.start_command,
        stop_command=settings.resync.stop_command,
        wait_s=settings.resync.wait_s,
    )


def _source(
    settings: "Settings", node: str, named: str | None, gate: AgentGate
) -> tuple[str, dict[str, str]]:
    """Return the source's name, and how it is reached. Raises ConfigError."""
    if named is not None and ("=" in named or "://" in named):
        return _by_dsn(settings, named)
    if named is None:
        whole = gate.standing().line
        line = [each for each in whole if each != node]
        if whole == (node,):
            raise GuardError(
                f"{node} is the node whose writes are kept: a resync takes away what"
                f" only {node} has",
                "resync the other side; or decide for it: --source NODE --force"
                " --reason TEXT",
            )
        if len(line) != 1:
            many = " or ".join(line)
            why = f"{many}: nobody can tell" if line else "no other primary is seen"
            raise GuardError(
                f"which node is to be followed is not known ({why})",
                "name it: --source NODE",
            )
        named = line[0]
    known = {each.name: each.postgres for each in settings.nodes}
    dsn = known.get(named)
    if dsn is None:
        names = ", ".join(name for name, each in known.items() if each)
        raise ConfigError(
            (f"--source {safe(named)}: no node of that name has a postgres",),
            f"one of {names}, or a connection string",
        )
    server = {k: v for k, v in _parse(dsn).items() if k not in _OF_THE_PROBE}
    return named, {**server, **_parse(settings.resync.source)}


def _by_dsn(settings: "Settings", text: str) -> tuple[str, dict[str, str]]:
    from agent.config.forms import remote_dsn, server_of

    try:
        parts = _parse(remote_dsn(text))
    except ValueError as error:
        raise ConfigError((f"--source: {error}",)) from error
    if "password" in parts:
        raise ConfigError(
            ("--source holds a password, which shows in the list of processes",),
            "put it into a passfile: passfile=/FILE",
        )
    same = (
        each.name
        for each in settings.nodes
        if each.postgres and server_of(each.postgres) == server_of(text)
    )
    return next(same, "the source"), parts


def _parse(text: str) -> dict[str, str]:
    from agent.config.forms import parse_dsn

    return parse_dsn(text)


def _text(parts: Mapping[str, str]) -> str:
    from agent.guard.resync_files import conninfo

    return conninfo(parts)
