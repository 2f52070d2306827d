"""`splitguard status --watch`: every change, as it happens.

Theory of operation. The agent holds the question until something that people see has
changed, so a change is shown within milliseconds and an idle watch costs nothing. On a
terminal the page is redrawn. Elsewhere each verdict that comes or goes is one line (or
with `--output jsonl` each changed status is one line of JSON). An agent that goes away
is told once, and is waited for.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agent.cli.call import Call
from agent.cli.console import Output, console, on_terminal, safe, say, words
from agent.cli.status_view import page, standing
from agent.errors import AgentUnreachableError, ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

WAIT_S = 30.0
"""The longest that one question is held; an agent that hangs is noticed then."""
RETRY_S = 1.0

Status = dict[str, Any]
Flips = dict[tuple[str, str], dict[str, Any]]


def watch(call: Call) -> int:
    """Show every change until interrupted."""
    if call.output is Output.JSON:
        raise ConfigError(
            ("--watch prints no single document",), "use --output jsonl, or table"
        )
    if call.output is Output.JSONL:
        for status in _changes(call):
            call.out.data(status, lambda: words(""))
    elif on_terminal():
        _redraw(call)
    else:
        _lines(call)
    return 0


def _changes(call: Call) -> Iterator[Status]:
    """Yield the status now, and again whenever it is another one."""
    tag = ""
    lost = False
    while True:
        try:
            status, tag = call.agent.status_change(tag, WAIT_S)
        except AgentUnreachableError as error:
            if not lost:
                say(f"splitguard: {error.message}; waiting for it")
            lost, tag = True, ""
            time.sleep(RETRY_S)
            continue
        if lost:
            say("splitguard: the agent answers again")
            lost = False
        if status is not None:
            yield status


def _redraw(call: Call) -> None:
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=False) as live:
        for status in _changes(call):
            live.update(_drawn(call, status), refresh=True)


def _drawn(call: Call, status: Status) -> "RenderableType":
    try:
        listed = status["incidents_open"] and call.agent.get("/v1/incidents")
        incidents = standing(listed["incidents"]) if listed else []
    except AgentUnreachableError:
        incidents = []
    return page(status, incidents)


def _lines(call: Call) -> None:
    before: Flips = {}
    for status in _changes(call):
        now = flips(status)
        for line in flip_lines(before, now, status["as_of"]):
            call.out.line(line)
        before = now


def flips(status: Status) -> Flips:
    """Return the verdicts by what tells them apart."""
    return {(each["verdict"], each["subject"]): each for each in status["verdicts"]}


def flip_lines(before: Flips, now: Flips, as_of: str) -> Iterator[str]:
    """Yield a line for each verdict that has gone, then for each that has come."""
    for key in before:
        if key not in now:
            yield safe(f"{as_of} over {key[0]} {key[1]}")
    for key, each in now.items():
        if key not in before or before[key]["severity"] != each["severity"]:
            words_of_it = f"{each['severity']} {key[0]} {key[1]}: {each['sentence']}"
            yield safe(f"{as_of} {words_of_it}")
