"""`splitguard explain`: why the agent says what it says, in sentences."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.call import Call, asks_agent, segment
from agent.cli.console import Output, safe, stacked, words
from agent.cli.over import pointers, untaken

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agent.core.manual import Entry


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
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="All that was seen, however long.")
    ] = False,
) -> int:
    """Explain what is so now, a verdict, or one incident.

    Of a verdict: its meaning, the next step and the rules that give it. Of an incident:
    who saw what when, in order, as far back as the agent's journal reaches (about a
    day), and why the rules fired.
    """
    from agent.core.verdict import VerdictCode

    if what is None:
        status = call.agent.get("/v1/status")
        verdicts = status["verdicts"]
        people = call.output is Output.TABLE
        over = untaken(call.agent.get("/v1/incidents")["incidents"]) if people else []
        call.out.data(
            verdicts,
            lambda: stacked(_verdicts(verdicts), *pointers(over)),
            items=verdicts,
        )
    elif what in set(VerdictCode):
        from agent.core.manual import entry

        known = entry(VerdictCode(what))
        call.out.data(_described(known), lambda: _drawn(known))
    else:
        found = call.agent.get(f"/v1/incidents/{segment(what)}")
        found["timeline"] = call.agent.get(f"/v1/incidents/{segment(what)}/timeline")
        call.out.data(found, lambda: _told(found, everything=everything))
    return 0


def _described(known: "Entry") -> dict[str, Any]:
    """Return all that is known of a verdict, for programs."""
    own = dict(known.row_steps)
    return {
        "verdict": known.code.value,
        "meaning": known.meaning,
        "next_step": known.next_step,
        "rules": [
            {
                "rule": row.number,
                "severity": row.severity.value,
                "sentence": row.sentence,
                "next_step": own.get(row.number, known.next_step),
            }
            for row in known.rules
        ],
    }


def _drawn(known: "Entry") -> "RenderableType":
    """Return all that is known of a verdict, for people."""
    own = dict(known.row_steps)
    parts = [
        words(f"{known.code.value} ({known.severity})", "bold"),
        words(f"  Meaning: {known.meaning}"),
        words(f"  Next: {known.next_step}"),
    ]
    for row in known.rules:
        parts.append(words(f"  Rule {row.number} ({row.severity}): {row.sentence}"))
        if row.number in own:
            parts.append(words(f"    Next: {own[row.number]}"))
    return stacked(*parts)


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
            *_pointer(each),
            words(""),
        ]
    return stacked(*parts[:-1])


def _pointer(verdict: dict[str, Any]) -> "list[RenderableType]":
    """Return where the story of a verdict is told, if it has one."""
    if verdict["incident"] is None:
        return []
    return [words(f"  Who saw what, when: splitguard explain {verdict['incident']}")]


def title(verdict: dict[str, Any]) -> str:
    """Return verdict and subject."""
    return safe(f"{verdict['verdict']} {verdict['subject']}")


def facts(verdict: dict[str, Any]) -> "list[RenderableType]":
    """Return rule and evidence in words, one line each."""
    from agent.core import wording

    known = wording.facts(verdict["evidence"])
    end = " fired on:" if known else " fired."
    rows = [words(f"  Rule {verdict['rule']}{end}", "dim")]
    rows += [words(f"    {safe(label)}: {safe(text)}", "dim") for label, text in known]
    return list(rows)


def story(incident: dict[str, Any]) -> "RenderableType":
    """Return one incident with all that belongs to it, each thing once."""
    parts: list[RenderableType] = [
        *_head(incident),
        *_lost(incident),
        *_kept(incident["snapshots"]),
        words(""),
        *facts(incident),
        words(""),
        words("History", "bold"),
        *_history(incident),
    ]
    return stacked(*parts)


def _told(incident: dict[str, Any], *, everything: bool) -> "RenderableType":
    """Return one incident in order of time, and why its rules fired."""
    from agent.cli import timeline

    told = incident["timeline"]
    parts: list[RenderableType] = [
        *_head(incident),
        *_lost(incident),
        *_kept(incident["snapshots"]),
        words(""),
        *timeline.drawn(told, everything=everything),
        words(""),
        words("Why", "bold"),
        *timeline.why(told),
        *facts(incident),
    ]
    return stacked(*parts)


def _head(incident: dict[str, Any]) -> "list[RenderableType]":
    """Return what it is, and what to do next."""
    over = incident["resolved"] is not None
    return [
        words(f"{incident['id']}: {title(incident)} ({_stand(incident)})", "bold"),
        words(f"{'Last seen: ' if over else ''}{safe(incident['sentence'])}"),
        words(f"Next: {safe(incident['next_step'])}", "bold"),
    ]


def _stand(incident: dict[str, Any]) -> str:
    if incident["resolved"] is not None:
        return f"resolved at {incident['resolved']}"
    who = incident["acknowledged_by"]
    taken = f", taken by {safe(who)}" if who else ""
    return f"{incident['status']} since {incident['since']}{taken}"


def _lost(incident: dict[str, Any]) -> "list[RenderableType]":
    """Return what it has cost; an older agent does not say."""
    losses = incident.get("losses") or []
    if not losses:
        return []
    parts: list[RenderableType] = [words(""), words("Lost", "bold")]
    for each in losses:
        parts.append(words(f"  {safe(each['sentence'])}"))
        parts.append(words(f"    on {safe(each['node'])}: {safe(each['command'])}"))
    return parts


def _kept(snapshots: list[dict[str, Any]]) -> "list[RenderableType]":
    """Return what is kept because of an incident, and the command that opens it."""
    if not snapshots:
        return []
    parts: list[RenderableType] = [words(""), words("Kept", "bold")]
    for each in snapshots:
        parts.append(words(f"  {safe(each['sentence'])}"))
        if each["command"] is not None:
            parts.append(words(f"    on {safe(each['beside'])}: {each['command']}"))
    return parts


def _history(incident: dict[str, Any]) -> "list[RenderableType]":
    """Return what became of it and who was told, in order of time.

    A sentence that is still the one before is not said again, and none of what is over.
    """
    rows, last = [], ""
    began = incident["since"]
    if all(began < flip["at"] for flip in incident["history"]):
        rows.append((began, "it began, and was noticed later"))
    for flip in incident["history"]:
        told = flip["sentence"] == last or flip["status"] == "resolved"
        new = "" if told else f": {flip['sentence']}"
        rows.append((flip["at"], f"{flip['status']} {flip['verdict']}{new}"))
        last = flip["sentence"]
    for notice in incident["notices"]:
        state = "delivered" if notice["delivered"] else "not delivered yet"
        told = f"told ({notice['reason']}), {state}, by {notice['by']}"
        rows.append((notice["at"], told))
    ordered = sorted(rows, key=lambda row: row[0])
    return [words(safe(f"  {at} {line}")) for at, line in ordered]
