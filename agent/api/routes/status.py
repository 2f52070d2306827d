"""What is so now: status, nodes, the lineage tree.

Status can be waited for. Its ETag names the revision; `?wait=` holds the answer until
the revision is another one than the tag in If-None-Match (or than the present one, when
none is given), or until the time is up, and then answers 304.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from agent.api.access import needs
from agent.api.context import Ctx
from agent.api.models import LineageOut, NodeOut, NodesOut, StatusOut
from agent.api.present import lineage, losing, matrix, node_out, nodes, status
from agent.api.problems import ApiError
from agent.api.tokens import Scope

router = APIRouter(prefix="/v1", tags=["status"], dependencies=[needs(Scope.READ)])

Wait = Annotated[float, Query(ge=0, le=60, description="Seconds to wait for a change")]
Tag = Annotated[str | None, Header(alias="If-None-Match", max_length=200)]


def etag(revision_tag: str) -> str:
    """Return the weak ETag of a revision: ages differ between two equal ones."""
    return f'W/"{revision_tag}"'


@router.get(
    "/status",
    summary="Everything that is so now",
    response_model=StatusOut,
    responses={304: {"description": "Nothing has changed since If-None-Match"}},
)
async def get_status(
    ctx: Ctx, response: Response, wait: Wait = 0.0, known: Tag = None
) -> StatusOut | Response:
    """Return the status, or wait until it is another one."""
    unchanged = known is None or known == etag(ctx.revision_tag)
    if wait and unchanged:
        await ctx.changed(ctx.desk.revision, wait)
    tag = etag(ctx.revision_tag)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if known == tag:
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return status(ctx.frame())


@router.get("/nodes", summary="All nodes")
async def get_nodes(ctx: Ctx) -> NodesOut:
    """Return all nodes, in the order of the configuration."""
    return NodesOut(nodes=nodes(ctx.frame()))


@router.get("/nodes/{name}", summary="One node")
async def get_node(ctx: Ctx, name: str) -> NodeOut:
    """Return one node."""
    frame = ctx.frame()
    for spec in frame.policy.nodes:
        if spec.name == name:
            return node_out(frame, spec, matrix(frame), losing(frame))
    known = ", ".join(spec.name for spec in frame.policy.nodes)
    raise ApiError(404, "There is no node of this name.", f"the nodes are {known}")


@router.get("/lineage", summary="The tree of timelines, and every node's place on it")
async def get_lineage(ctx: Ctx) -> LineageOut:
    """Return the tree that all known timeline histories make."""
    return lineage(ctx.frame())
