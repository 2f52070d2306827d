"""`splitguard status`: what is so now, once or as it changes.

Theory of operation. The agent on this machine answers. Where it does not, its peers are
asked if the caller has given a token, and otherwise, or where none of them answers,
each node is looked at once from here; stderr says which of the three it was. With
`--watch` every change is shown as it happens: redrawn on a terminal, one line per
verdict that comes or goes elsewhere.
"""

from typing import Annotated, Any

import typer

from agent.cli.call import Call, asks_agent
from agent.cli.console import Output, say, stacked
from agent.cli.over import pointers, untaken
from agent.errors import AgentUnreachableError, ConfigError


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("status")(asks_agent(status))


def status(
    call: Call,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay, and show every change.")
    ] = False,
) -> int:
    """Show what is so now, and what to do next.

    Verdict, nodes, who sees whom, protection, open incidents.
    """
    if watch:
        from agent.cli.watch import watch as stay

        return stay(call)
    from agent.cli import status_view

    dead: AgentUnreachableError | None = None
    found: dict[str, Any] = {}
    try:
        found = call.agent.get("/v1/status")
    except AgentUnreachableError as error:
        dead = error
    if dead is not None:
        return _without_agent(call, dead)
    people = call.output is Output.TABLE
    incidents = call.agent.get("/v1/incidents")["incidents"] if people else []
    call.out.data(
        found,
        lambda: stacked(
            status_view.page(found, status_view.standing(incidents)),
            *pointers(untaken(incidents)),
        ),
    )
    return 0


def _without_agent(call: Call, error: AgentUnreachableError) -> int:
    """Ask the peers, else look once. Raises `error` where neither can be done."""
    from agent.cli import address, fallback, status_view

    if call.url is not None:
        raise error
    try:
        settings = call.settings(files=False)
    except ConfigError:
        # Without a configuration there is nobody else to ask: the first error counts.
        raise error from None
    token = address.token(call.token_file)
    say(f"splitguard: {error.message}")
    peer = fallback.ask_peers(settings, token) if token else None
    if peer is not None:
        name, found = peer
        say(f"  asked its peers instead; this is what {name} says")
        call.out.data(found, lambda: status_view.page(found, []))
        return 0
    if token:
        say("  no peer gives its status; every node was asked once from here instead")
    else:
        say("  without a token no peer was asked for its status (--token-file FILE or")
        say("  SPLITGUARD_TOKEN); every node was asked once from here instead")
    say("  this is one look from this machine, no verdict")
    look = fallback.look_once(settings)
    if look.token_error and not look.reports:
        say(f"  no agent was asked for its report: {look.token_error}")
    call.out.data(
        {
            "cluster": settings.cluster,
            "source": "one look",
            "sights": look.sights,
            "reports": look.reports,
        },
        lambda: fallback.look_view(look),
        items=[*look.sights, *look.reports],
    )
    return 0
