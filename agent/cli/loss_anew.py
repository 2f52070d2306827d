"""Before a rescue writes: is this the winner of the report, and what lacks it now.

Theory of operation. A report may be hours old, and the winner went on. So the server
that is to be written to is first held against the one that the report was made with:
one on another history is refused, because what it lacks is another matter. Then it is
compared anew, with the role that is going to write, and with the story that the agent
beside it tells, where the configuration has one. A comparison that rests on the
winner's log is not replaced by one that has its rows alone, which knows less: then its
age is said, and the statements themselves see what changed since.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from agent.cli.call import Call
from agent.cli.console import safe, say
from agent.cli.loss_progress import progress
from agent.config.forms import parse_dsn
from agent.divergence import losses, parting
from agent.divergence.remote import story_of_agent
from agent.divergence.rescue import Way, connect_to
from agent.divergence.rescue_source import Kept, load
from agent.divergence.winner import Door, StoryOf
from agent.errors import ConfigError, DivergenceError, SplitguardError
from agent.postgres.connect import server_named

_PLACE = ("host", "hostaddr", "port")


def compare_anew(call: Call, place: Path, way: Way, wall_s: float) -> None:
    """Compare with the server that is to be written to, as it is now.

    Raises DivergenceError when that is not the winner of the report, PostgresError when
    it does not answer, SnapshotError, OSError.
    """
    kept = load(place)
    for lost in kept.databases[:1]:
        connect_to(way, lost.database).close()
    check_line(kept, way.dsn)
    told = _story_of(call, kept, way)
    against = kept.comparison.against
    if against.by_log and told is None:
        hours, rest = divmod(max(0, int(wall_s - against.at_s)), 3600)
        say(
            f"splitguard: the comparison is {hours} h {rest // 60} min old; it is not"
            " made anew, as it rests on the winner's log, which nobody tells now: what"
            " changed there since stays as it is and is listed"
        )
        return
    door = Door(against.name, way.dsn, way.statement_timeout_s)
    if told is not None:
        door = replace(door, story_of=told)
    with progress("compare anew") as show:
        task = losses.Task(place, kept.extraction.fork, wall_s, progress=show)
        losses.compare_with(task, kept.extraction, door)
    say(f"splitguard: compared anew with {safe(server_named(way.dsn))}")


def check_line(kept: Kept, dsn: str) -> None:
    """Refuse a server that does not go on from where the report read the winner.

    Raises DivergenceError, PostgresError.
    """
    against = kept.comparison.against
    timeline = parting.timeline_of(dsn, "")
    lineage = parting.lineage_of(dsn)
    goes_on = timeline == against.timeline
    if lineage is not None and not goes_on:
        # The winner itself may have handed over to a standby of its own since.
        goes_on = any(
            switch.timeline == against.timeline and switch.lsn >= against.lsn
            for switch in lineage.switches
        )
    if against.timeline is None or goes_on:
        return
    made = datetime.fromtimestamp(against.at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    raise DivergenceError(
        f"{server_named(dsn)} is on timeline {timeline}; the report was made with"
        f" {against.name} on timeline {against.timeline}, at {made}: it is another"
        " history than the winner's",
        f"name the winner, or, if this one is kept, first run `splitguard loss report"
        f" {kept.extraction.snapshot} --against DSN` with it",
    )


def _story_of(call: Call, kept: Kept, way: Way) -> StoryOf | None:
    """Return who tells the winner's log: its agent, where there is one."""
    name = kept.comparison.against.name
    try:
        settings = call.settings(files=False)
    except ConfigError:
        return None
    for node in settings.nodes:
        if node.name == name and node.postgres and _same(node.postgres, way.dsn):
            from agent.daemon.lossjob import agent_beside

            try:
                there = agent_beside(settings, name)
            except SplitguardError as error:
                say(f"splitguard: the agent of {safe(name)} is not asked: {error}")
                return None
            if there is not None:
                return story_of_agent(there, kept.extraction.fork.lsn)
    return None


def _same(one: str, other: str) -> bool:
    return _place(parse_dsn(one)) == _place(parse_dsn(other))


def _place(pairs: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(pairs.get(key) for key in _PLACE)
