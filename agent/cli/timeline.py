"""Who saw what, when: an incident's timeline on one screen.

Theory of operation. Lines stand in order of time. What was concluded is set off from
what was seen; what came to this agent's knowledge later says by how much, since until
then it could not have known. Of a long story the beginning and the end are shown.
"""

from typing import TYPE_CHECKING, Any

from agent.cli.console import duration_text, safe, words

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES_MAX = 24
"""What leaves room on a screen for the rest."""


def drawn(timeline: dict[str, Any], *, everything: bool) -> "list[RenderableType]":
    """Return the timeline as lines."""
    moments = timeline["moments"]
    days = sorted({moment["at"][:10] for moment in moments})
    day = f", {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    parts: list[RenderableType] = [words(f"Who saw what, when (UTC{day})", "bold")]
    chosen = set(range(len(moments))) if everything else _chosen(moments)
    last = -1
    for at in sorted(chosen):
        if at > last + 1:
            parts.append(words(f"  … {at - last - 1} more (--all)", "dim"))
        parts.append(words(safe(_line(moments[at])), _style(moments[at])))
        last = at
    if last + 1 < len(moments):
        parts.append(words(f"  … {len(moments) - last - 1} more (--all)", "dim"))
    if not timeline["whole"]:
        parts.append(words(f"  {_missing(timeline)}", "dim"))
    return parts


def why(timeline: dict[str, Any]) -> "list[RenderableType]":
    """Return what the rows that fired say, one line each."""
    return [
        words(safe(f"  Rule {rule['number']}: {rule['says']}"), "dim")
        for rule in timeline["rules"]
    ]


def _chosen(moments: list[dict[str, Any]]) -> set[int]:
    """Return which lines are shown: all conclusions, and what came right before them.

    Of very many conclusions the first and the last ones are.
    """
    if len(moments) <= LINES_MAX:
        return set(range(len(moments)))
    turns = [at for at, one in enumerate(moments) if one["kind"] == "verdict"]
    half = LINES_MAX // 4
    chosen = {*turns[:half], *turns[half:][-half:]}
    others = [at for at, one in enumerate(moments) if one["kind"] == "seen"]
    others.sort(key=lambda at: _distance(at, turns) + _dull(moments[at]))
    chosen.update(others[: LINES_MAX - len(chosen)])
    return chosen


def _distance(at: int, turns: list[int]) -> int:
    """Return how many lines before the next conclusion it stands; after all: far."""
    return next((turn - at for turn in turns if turn > at), 1000 + at)


def _dull(moment: dict[str, Any]) -> int:
    """Return how many lines further off a mere `answers` counts."""
    return 8 if moment["what"] == "answers" else 0


def _line(moment: dict[str, Any]) -> str:
    time = moment["at"][11:21]
    late_s = moment["learnt_s"]
    late = f" (known {duration_text(late_s)} later)" if late_s >= 1 else ""
    if moment["kind"] == "seen":
        about = ", ".join(moment["about"])
        return f"  {time}  {moment['by']} sees {about}: {moment['what']}{late}"
    if moment["kind"] == "told":
        return f"  {time}    {moment['by']} {moment['what']}"
    return f"  {time}  = {moment['what']} [rule {moment['rule']}]{late}"


def _style(moment: dict[str, Any]) -> str:
    return {"verdict": "bold", "told": "dim"}.get(moment["kind"], "")


def _missing(timeline: dict[str, Any]) -> str:
    since = timeline["rounds_since"]
    if since is None:
        return f"What was seen is not kept on {timeline['observer']}."
    return f"What was seen is kept on {timeline['observer']} since {since} only."
