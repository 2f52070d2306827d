"""`splitguard check`: one line and an exit code for Nagios and its kin.

Theory of operation. 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, as the Monitoring Plugins
guidelines say, with performance data behind a bar. An agent that does not answer, or
that itself has seen nothing for a while, is UNKNOWN: it says nothing about the cluster.
A critical incident that is open and that nobody has acknowledged is CRITICAL even where
its cause has passed, such as a failover: somebody has to know of it.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from agent.cli.call import Call, asks_agent

OK, WARNING, CRITICAL, UNKNOWN = range(4)
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
CODE_OF_SEVERITY = {
    "ok": OK,
    "info": OK,
    "unknown": UNKNOWN,
    "warning": WARNING,
    "critical": CRITICAL,
}
DEADLINE_S = 8.0
"""Below Nagios' own limit of 10 s for a plugin."""
LINE_CHARS = 300


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("check")(asks_agent(check))


def check(
    call: Call,
    *,
    max_age_s: Annotated[
        float,
        typer.Option(
            "--max-age-s", min=0, help="Older sights than this are UNKNOWN; seconds."
        ),
    ] = 15.0,
) -> int:
    """Print one line for a monitoring system.

    Exit 0, 1, 2 or 3, as Nagios wants.
    """
    status = call.agent.get("/v1/status", deadline_s=DEADLINE_S)
    incidents = call.agent.get("/v1/incidents", deadline_s=DEADLINE_S)["incidents"]
    code, text = judge(status, max_age_s, incidents)
    line = f"SPLITGUARD {NAMES[code]} - {_one_line(text)} | {performance(status)}"
    call.out.line(line)
    return code


def judge(
    status: dict[str, Any],
    max_age_s: float,
    incidents: Sequence[dict[str, Any]] = (),
) -> tuple[int, str]:
    """Return the code and the sentence for a status and the incidents on record."""
    age_s = status["data_age_s"]
    if age_s is None:
        return UNKNOWN, "the agent has just started and has seen nothing yet"
    if age_s > max_age_s:
        return UNKNOWN, f"the agent's newest sight is {age_s:.0f} s old"
    headline = status["headline"]
    code = CODE_OF_SEVERITY.get(headline["severity"], UNKNOWN)
    waiting = [one for one in incidents if _waits_for_somebody(one)]
    if code != CRITICAL and waiting:
        one = waiting[0]
        todo = f"Nobody has taken it: splitguard incidents ack {one['id']}"
        return CRITICAL, f"{_what(status, one)}: {one['sentence']} {todo}"
    return code, f"{_what(status, headline)}: {headline['sentence']}"


def _what(status: dict[str, Any], told: dict[str, Any]) -> str:
    """Return cluster, verdict and subject."""
    subject = "" if told["subject"] == "cluster" else f" {told['subject']}"
    return f"{status['cluster']}: {told['verdict']}{subject}"


def _waits_for_somebody(incident: dict[str, Any]) -> bool:
    """Whether an incident is critical, open, and taken by nobody."""
    return (incident["severity"], incident["status"]) == ("critical", "open")


def performance(status: dict[str, Any]) -> str:
    """Return the performance data of a status."""
    nodes = status["nodes"]
    primaries = sum(node["role"] == "primary" for node in nodes)
    values = [
        f"primaries={primaries};;;0",
        f"incidents={status['incidents_open']};;;0",
        f"undelivered={status['notices']['undelivered']};;;0",
    ]
    if status["data_age_s"] is not None:
        values.append(f"data_age={status['data_age_s']:.3f}s;;;0")
    values += [
        f"'lag_{node['name']}'={node['lag_bytes']}B;;;0"
        for node in nodes
        if node["lag_bytes"] is not None
    ]
    return " ".join(values)


def _one_line(text: str) -> str:
    """Return text without line ends and bars, which mean something to Nagios."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= LINE_CHARS else line[: LINE_CHARS - 1] + "…"
