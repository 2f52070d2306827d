"""`splitguard explain`: why the agent says what it says, in sentences."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import safe, stacked, words

if TYPE_CHECKING:
    from rich.console import RenderableType


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("explain")(asks_agent(explain))


def explain(
    call: Call,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[INCIDENT|VERDICT]",
            help="An incident's id, or a verdict such as split-brain."
            " Default: all that is so now.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Explain what is so now, one incident, or what a verdict means."""
    from agent.core.verdict import VerdictCode

    if what is None:
        status = call.agent.get("/v1/status")
        verdicts = status["verdicts"]
        call.out.data(verdicts, lambda: _verdicts(verdicts), items=verdicts)
    elif what in set(VerdictCode):
        from agent.core.explain import meaning

        text = meaning(VerdictCode(what))
        call.out.data({"verdict": what, "meaning": text}, lambda: words(text))
    else:
        found = call.agent.get(f"/v1/incidents/{segment(what)}")
        call.out.data(found, lambda: story(found))
    return 0


def _verdicts(verdicts: list[dict[str, Any]]) -> "RenderableType":
    from agent.core.explain import meaning
    from agent.core.verdict import VerdictCode

    if not verdicts:
        return words("The agent has just started and has not judged anything yet.")
    parts: list[RenderableType] = []
    for each in verdicts:
        known = each["verdict"] in set(VerdictCode)
        text = meaning(VerdictCode(each["verdict"])) if known else ""
        parts += [
            words(f"{each['severity'].upper()} {title(each)}", "bold"),
            words(f"  {safe(each['sentence'])}"),
            *([words(f"  Meaning: {text}")] if text else []),
            *(
                [words(f"  Next: {safe(each['next_step'])}")]
                if each["next_step"]
                else []
            ),
            *facts(each),
            words(""),
        ]
    return stacked(*parts[:-1])


def title(verdict: dict[str, Any]) -> str:
    """Return verdict and subject."""
    return safe(f"{verdict['verdict']} {verdict['subject']}")


def facts(verdict: dict[str, Any]) -> "list[RenderableType]":
    """Return rule and evidence, one line each."""
    rows = [words(f"  Rule {verdict['rule']} fired on:", "dim")]
    rows += [
        words(f"    {safe(key)}: {safe(value)}", "dim")
        for key, value in verdict["evidence"].items()
    ]
    return list(rows) if len(rows) > 1 else [words(f"  Rule {verdict['rule']}", "dim")]


def story(incident: dict[str, Any]) -> "RenderableType":
    """Return one incident with all that belongs to it."""
    parts: list[RenderableType] = [
        words(f"{incident['id']}: {title(incident)} ({incident['status']})", "bold"),
        *(words(safe(sentence)) for sentence in incident["sentences"]),
    ]
    if incident["next_step"]:
        parts.append(words(f"Next: {safe(incident['next_step'])}", "bold"))
    parts += [words(""), *facts(incident), words(""), words("History", "bold")]
    for flip in incident["history"]:
        line = f"  {flip['at']} {flip['status']} {flip['verdict']}: {flip['sentence']}"
        parts.append(words(safe(line)))
    for notice in incident["notices"]:
        state = "delivered" if notice["delivered"] else "not delivered yet"
        line = f"  {notice['at']} told ({notice['reason']}), {state}, by {notice['by']}"
        parts.append(words(safe(line)))
    for capture in incident["captures"]:
        line = (
            f"  snapshot {capture['id']}: {capture['phase']}, grade {capture['grade']}"
        )
        parts.append(words(safe(line)))
    return stacked(*parts)
