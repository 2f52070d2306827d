"""Who is to be kept after a split: what is predicted, and what an operator decides.

A decision orders the captures and, with `lb.fail_closed`, says which side of a proven
split stays open. It promotes nobody and resyncs nothing.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_decisions import WinnerIn, WinnerOut
from agent.api.present.decisions import winner_out
from agent.api.problems import ApiError
from agent.api.tokens import Principal, Scope
from agent.core.event import WinnerDecided
from agent.core.pinning import decision

router = APIRouter(prefix="/v1/winner", tags=["decisions"])
Operator = Annotated[Principal, needs(Scope.OPERATE)]
HINT = "see `splitguard status`, and the agent's log for what ails the journal"


@router.get("", summary="Who would be kept", dependencies=[needs(Scope.READ)])
async def get_winner(ctx: Ctx) -> WinnerOut:
    """Return the prediction, by which rule, and the decisions of operators."""
    return winner_out(ctx.frame())


@router.post("", summary="Pin the winner", status_code=201)
async def pin_winner(ctx: Ctx, question: WinnerIn, principal: Operator) -> WinnerOut:
    """Decide whose writes are to be kept; it replaces every earlier decision."""
    if not question.reason.strip():
        raise ApiError(422, "To pin a winner needs a reason.", "give a reason")
    nodes = [spec.name for spec in ctx.desk.policy.nodes if spec.has_postgres]
    if question.node not in nodes:
        raise ApiError(
            422,
            "There is no node of this name with a PostgreSQL.",
            f"the nodes are {', '.join(nodes)}",
        )
    await _decide(ctx, question.node, question.who or principal.name, question.reason)
    return winner_out(ctx.frame())


@router.delete("", summary="Unpin the winner")
async def unpin_winner(
    ctx: Ctx,
    principal: Operator,
    who: Annotated[
        str, Query(max_length=200, description="Default: the token's name.")
    ] = "",
) -> WinnerOut:
    """Take back what was decided; the first prediction then stands again."""
    decided = decision(ctx.frame().state)
    if decided.pin is None and not decided.disputed:
        raise ApiError(409, "No winner is pinned.", "see `splitguard winner show`")
    await _decide(ctx, None, who or principal.name, "")
    return winner_out(ctx.frame())


async def _decide(ctx: Context, node: str | None, who: str, reason: str) -> None:
    """Enter a decision. Raises ApiError when the journal did not take it."""
    before = ctx.desk.state.ledger.pins
    state = await ctx.desk.submit(WinnerDecided(ctx.desk.now(), node, who, reason))
    if state.ledger.pins == before:
        raise ApiError(503, "The journal did not take it, so nothing is decided.", HINT)
