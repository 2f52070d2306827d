"""What is over but not done with: a split that ended while nobody looked.

Theory of operation. When the loser is resynced the cluster is healthy again, and all
that is left of the lost writes is a snapshot. So whoever asks how things are is pointed
to every split that is over and was taken by nobody, until somebody takes it.
"""

from typing import TYPE_CHECKING, Any

from agent.cli.console import safe, words

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_MAX = 5


def untaken(incidents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the splits that are over and were acknowledged by nobody."""
    return [
        each
        for each in incidents
        if each["family"] == "split"
        and each["resolved"] is not None
        and each["acknowledged_by"] is None
    ]


def pointers(incidents: list[dict[str, Any]]) -> "list[RenderableType]":
    """Return what to tell of them, with the commands to copy."""
    parts: list[RenderableType] = []
    for each in incidents[:SHOWN_MAX]:
        title = safe(f"{each['id']} {each['verdict']} {each['subject']}")
        parts += [
            words(""),
            words(f"Over since {each['resolved']}, taken by nobody: {title}", "bold"),
            words(f"  what is kept: splitguard incidents show {each['id']}"),
            words(f"  done with it: splitguard incidents ack {each['id']}"),
        ]
    if len(incidents) > SHOWN_MAX:
        parts.append(words(f"and {len(incidents) - SHOWN_MAX} more: incidents list -a"))
    return parts
