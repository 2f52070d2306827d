"""How `splitguard lab` shows what it was told, as tables.

The JSON that the same commands print is what the lab said, as it is.
"""

from typing import TYPE_CHECKING, Any

from agent.cli.console import grid, stacked, words

if TYPE_CHECKING:
    from rich.console import RenderableType

RESCUE = {
    "in_winner_after": "in winner after the rescue",
    "overwritten": "overwritten by the rescue",
    "conflicts_left": "conflicts left to a person",
}


def written_table(result: dict[str, Any]) -> "RenderableType":
    """Return how many rows which node took."""
    nodes = [f"{name} ({count})" for name, count in result["nodes"].items()]
    row = (result["acknowledged"], ", ".join(nodes), result["log"])
    return grid(("acknowledged", "by", "log"), [row])


def status_table(found: dict[str, Any]) -> "RenderableType":
    """Return the nodes, and what is wrong with the links between them."""
    nodes = found["nodes"]
    keys = ("name", "role", "agent_url", "manager_url", "pid", "note")
    rows = [[node[key] for key in keys] for node in nodes]
    table = grid(("node", "role", "agent", "manager", "pid", "note"), rows)
    lines = [words(trouble, "yellow") for trouble in found["troubles"]]
    hint = words(
        f"Ask the agents: export SPLITGUARD_CONFIG={found['config']}, then"
        " `splitguard status`."
    )
    return stacked(table, *lines, hint)


def _loss_table(loss: dict[str, Any]) -> "RenderableType":
    """Return the headline counts of the loss report."""
    shown = {name: count for name, count in loss.items() if name != "snapshot"}
    shown["seconds"] = f"{loss['seconds']:.2f}"
    return grid(
        ("loss report", ""), [(name, str(count)) for name, count in shown.items()]
    )


def story_table(result: dict[str, Any]) -> "RenderableType":
    """Return what came of a story: its times, and the writes that were promised."""
    parts: list[RenderableType] = []
    timings = [
        (name.replace("_", " "), "-" if value is None else f"{value:.2f} s")
        for name, value in result["timings_s"].items()
    ]
    parts.append(grid(("time", ""), timings))
    if "writes" in result:
        from agent.lab.split_brain import failed, truth

        counts = [*result["writes"].items()]
        counts.append(("lost without Splitguard", result["without_splitguard"]["lost"]))
        if result["rescue"]:
            parts += [words(""), _loss_table(result["loss"])]
            counts += [(name, result["rescue"][key]) for key, name in RESCUE.items()]
        rows = [(name.replace("_", " "), str(count)) for name, count in counts]
        style = "bold red" if failed(result) else "bold green"
        parts += [words(""), grid(("acknowledged writes", ""), rows)]
        parts += [words(""), words(truth(result), style)]
    return stacked(*parts)
