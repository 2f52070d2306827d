"""Puts a recovery together: journal, facts, managers, agents, and the runner.

Theory of operation. What the configuration knows of the cluster fills the commands that
are shown; options are written into the journal, so a run that goes on needs none of
them again. The managers' generation is asked of them, and of nobody else while one
answers. A dry run has no journal, and makes no folder.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from agent.cli import address
from agent.cli.call import Call
from agent.cli.client import AgentClient
from agent.cli.console import say
from agent.cli.incidents import user_name
from agent.cli.recover_screen import Screen
from agent.config.forms import parse_dsn
from agent.daemon.clock import SystemClock
from agent.errors import ConfigError, ManagerError
from agent.vnfm.client import CreateOptions, ManagerClient
from agent.vnfm.connect import http_of, kept_login
from agent.vnfm.records import Generation
from agent.vnfm.recovery import journal as journals
from agent.vnfm.recovery.doors import AgentDoor
from agent.vnfm.recovery.finding import Finder
from agent.vnfm.recovery.hands import Hands, Means
from agent.vnfm.recovery.journal import Header, Journal, time_text
from agent.vnfm.recovery.looking import generation_of, generation_told
from agent.vnfm.recovery.model import Scenario, steps_of
from agent.vnfm.recovery.ports import Outcome
from agent.vnfm.recovery.runner import Runner
from agent.vnfm.shelf import Shelf

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.snapshot.sealing import Identity

WHOLE_CLUSTER = "whole-cluster"
PRIVATE = 0o700


@dataclass(frozen=True)
class Wish:
    """What the options of `splitguard recover` ask for."""

    dry_run: bool
    yes: bool
    anew: bool
    journal: Path | None
    generation: Generation | None
    to: Path | None
    identities: "tuple[Identity, ...]"
    facts: Mapping[str, str]
    """Options that steps go by; only those that were given."""


class Agents:
    """Implements doors.Doors of agent.vnfm.recovery with the commands' client."""

    def __init__(self, call: Call, settings: "Settings") -> None:
        self._call = call
        self._settings = settings

    @property
    def here(self) -> AgentDoor:
        """The agent that the options mean."""
        return Door(self._call.agent)

    def of(self, node: str) -> AgentDoor | None:
        """The agent of a node, asked with the same token."""
        call = self._call
        if node == self._settings.me and call.url is None:
            return self.here
        url = self._settings.node_settings(node).agent
        if url is None:
            return None
        found = address.find(call.config, None, url, call.token_file)
        return Door(AgentClient(found))


class Door:
    """Implements doors.AgentDoor."""

    def __init__(self, agent: AgentClient) -> None:
        self._agent = agent

    def get(
        self, path: str, query: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Ask; see AgentClient."""
        return self._agent.get(path, query)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Send; see AgentClient."""
        return self._agent.post(path, body)

    def fetch(self, path: str, target: Path) -> None:
        """Write an archive into a new file."""
        try:
            with target.open("xb") as file:
                target.chmod(0o600)
                self._agent.download(path, file.write)
        except OSError as error:
            raise ManagerError(f"{target}: {error.strerror}", "see --to") from error


def play(call: Call, scenario: Scenario, wish: Wish) -> tuple[Outcome, Screen, str]:
    """Run it; return how it ended, what was shown, and where its journal lies.

    Raises SplitguardError.
    """
    settings = call.settings()
    if not settings.vnfm.has_login:
        raise ConfigError(
            ("the managers' login is not configured",),
            "set [vnfm] username and password_file, or token_file",
        )
    return asyncio.run(_play(call, settings, scenario, wish))


async def _play(
    call: Call, settings: "Settings", scenario: Scenario, wish: Wish
) -> tuple[Outcome, Screen, str]:
    clock = SystemClock()
    http, login = http_of(settings), kept_login(settings.vnfm)
    managers = {
        node.name: ManagerClient(str(node.manager), login, http, clock)
        for node in settings.nodes
        if node.manager is not None
    }
    if not managers:
        raise ConfigError(
            ("no node of the configuration has a manager",),
            "set manager under [[nodes]]",
        )
    agents = Agents(call, settings)
    try:
        found = await _generation_found(scenario, managers, agents)
        with _journal(settings, scenario, wish, found, clock) as journal:
            generation = _generation(found, wish, journal)
            facts = _facts(settings, scenario, wish, journal)
            to = Path(facts["to"])
            if journal is not None:
                _make_folder(to)
                now = time_text(clock.moment().wall_s)
                journal.told(now, ("options", ""), "noted", "", facts)
            total = len(tuple(steps_of(scenario, generation)))
            screen = Screen(call.out, total, wish.yes)
            means = Means(
                managers=managers,
                doors=agents,
                finder=Finder(
                    Shelf(settings.manager_snapshots_dir),
                    agents,
                    tuple(one.name for one in settings.nodes if one.agent),
                    to,
                    wish.identities,
                ),
                certificates=settings.vnfm.certificates,
                recipients=settings.capture.recipients,
                options=_create_options(settings),
                wait_s=settings.vnfm.wait_s,
                me=settings.me,
                who=user_name(),
                told=screen.archive,
                stage=screen.stage,
            )
            runner = Runner(
                scenario,
                generation,
                Hands(means, generation, by_agents=scenario.by_agents),
                screen,
                clock,
                journal,
                facts,
            )
            try:
                outcome = await runner.run()
            except (asyncio.CancelledError, KeyboardInterrupt, typer.Abort):
                if journal is not None:
                    screen.interrupted()
                raise
            return outcome, screen, str(journal.path) if journal else ""
    finally:
        for client in managers.values():
            await client.close()
        await http.close()


async def _generation_found(
    scenario: Scenario, managers: Mapping[str, ManagerClient], agents: Agents
) -> Generation | None:
    """Ask of which generation the managers are: them first, or agents where that harms.

    Raises ManagerError for a refused login.
    """
    told = None
    if scenario.by_agents:
        told = await asyncio.to_thread(generation_told, agents)
    return (
        told
        or await generation_of(managers)
        or await asyncio.to_thread(generation_told, agents)
    )


@contextmanager
def _journal(
    settings: "Settings",
    scenario: Scenario,
    wish: Wish,
    generation: Generation | None,
    clock: SystemClock,
) -> Iterator[Journal | None]:
    """Open the journal of the run that goes on, or a new one; none for a dry run."""
    if wish.dry_run:
        yield None
        return
    folder = settings.state_dir / journals.FOLDER
    path = wish.journal
    if path is None and not wish.anew:
        path = journals.unfinished(folder, scenario.name)
    if path is not None and path.exists():
        journal = journals.resume(path)
        _check_header(journal, scenario, settings.cluster)
        say(f"splitguard: going on with the run of {journal.header.began}: {path}")
    else:
        known = generation or wish.generation or _untold()
        header = Header(
            scenario.name,
            settings.cluster,
            known.value,
            time_text(clock.moment().wall_s),
        )
        journal = journals.begin(path or journals.place_of(folder, header), header)
        say(f"splitguard: the journal of this run is {journal.path}")
    try:
        yield journal
    finally:
        journal.close()


def _check_header(journal: Journal, scenario: Scenario, cluster: str) -> None:
    head = journal.header
    wrong = ""
    if head.scenario != scenario.name:
        wrong = f"{journal.path} is of {head.scenario}, not of {scenario.name}"
    elif head.cluster != cluster:
        wrong = f"{journal.path} is of cluster {head.cluster}, not of {cluster}"
    elif journal.ended:
        wrong = f"the run of {journal.path} came to its end"
    if wrong:
        journal.close()
        raise ManagerError(wrong, "name another file with --journal, or give --anew")


def _generation(
    found: Generation | None, wish: Wish, journal: Journal | None
) -> Generation:
    if journal is None:
        return found or wish.generation or _untold()
    try:
        return Generation(journal.header.generation)
    except ValueError as error:
        raise ManagerError(
            f"{journal.path} is of managers that nobody knows", "begin anew: --anew"
        ) from error


def _untold() -> Generation:
    raise ManagerError(
        "no manager answers, so nobody says of which generation they are",
        "say it: --generation 4 (4.x, one is active) or --generation 5 (5.0.5 and"
        " later, all are)",
    )


def _facts(
    settings: "Settings", scenario: Scenario, wish: Wish, journal: Journal | None
) -> dict[str, str]:
    """Return what is known before the first step.

    What the configuration says now counts before what an earlier run had noted; what
    was learnt, and options that are not given again, come from the journal.
    """
    learnt = dict(journal.facts) if journal is not None else {}
    to = wish.to.absolute() if wish.to is not None else learnt.get("to", "")
    safe_place = str(to or _default_to(settings, scenario))
    facts = {
        **_of_certificates(settings, safe_place),
        **learnt,
        **_of_cluster(settings),
        **wish.facts,
        "lost": _joined(learnt.get("lost", ""), wish.facts.get("lost", "")),
        "to": safe_place,
    }
    if scenario.name == WHOLE_CLUSTER:
        names = facts["managers"].split(",")
        leader = facts.get("leader") or names[0]
        if leader not in names:
            raise ConfigError(
                (f"--manager {leader}: no node of that name has a manager",),
                f"there are: {', '.join(names)}",
            )
        facts["leader"] = leader
        facts["leader_address"] = facts[f"address.{leader}"]
        facts["others"] = ",".join(name for name in names if name != leader)
    return facts


def _joined(*lists: str) -> str:
    names = (name for names in lists for name in names.split(",") if name)
    return ",".join(dict.fromkeys(names))


def _of_certificates(settings: "Settings", to: str) -> dict[str, str]:
    """Return what is told of certificates as long as nothing better was learnt."""
    folders, me = settings.vnfm.certificates, settings.me
    names = [one.name for one in settings.nodes if one.manager is not None]
    facts = {
        "certificates_below_root": " ".join(str(one).lstrip("/") for one in folders),
        "whose_folders": f"The folders named here are those of {me}'s configuration;"
        " where [vnfm] certificates there says others, take those.",
        "its_certificates": f"Unpack {to}/NODE-certificates.tar there.",
    }
    for name in names:
        told = f"Unpack {to}/{name}-certificates.tar there."
        facts[f"its_certificates.{name}"] = told
    return facts


def _of_cluster(settings: "Settings") -> dict[str, str]:
    names = [one.name for one in settings.nodes if one.manager is not None]
    folders = settings.vnfm.certificates
    facts = {
        "managers": ",".join(names),
        "elsewhere": ",".join(name for name in names if name != settings.me),
        "me": settings.me,
        "username": settings.vnfm.username,
        "tenant": settings.vnfm.tenant,
        "certificates": " and ".join(str(one) for one in folders),
    }
    for node in settings.nodes:
        if node.manager is not None:
            facts[f"address.{node.name}"] = urlsplit(str(node.manager)).hostname or ""
        if node.postgres is not None:
            parts = parse_dsn(node.postgres)
            facts[f"host.{node.name}"] = parts.get("host", parts.get("hostaddr", ""))
    return facts


def _default_to(settings: "Settings", scenario: Scenario) -> Path:
    """Return where things are saved when nobody says it. Raises ConfigError."""
    mine = [one for one in settings.nodes if one.name == settings.me]
    if scenario.name == WHOLE_CLUSTER and any(one.manager for one in mine):
        raise ConfigError(
            (f"this machine is {settings.me}, whose manager is torn down on the way",),
            "say where certificates and snapshot are safe: --to FOLDER, on a disk that"
            " is not this machine's; or run it on another machine",
        )
    return settings.state_dir / journals.FOLDER / "files"


def _make_folder(to: Path) -> None:
    try:
        to.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise ManagerError(
            f"{to} cannot be made: {error.strerror}", "name another folder with --to"
        ) from error


def _create_options(settings: "Settings") -> CreateOptions:
    told = settings.vnfm
    return CreateOptions(
        include_metrics=told.include_metrics,
        include_credentials=told.include_credentials,
        include_logs=told.include_logs,
        include_events=told.include_events,
    )
