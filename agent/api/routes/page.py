"""The page, and its own style and script.

The page is read-only and comes whole from the server; the script only fetches it again
when something has changed, with the ETag and `?wait=` of this route.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import HTMLResponse

from agent import __version__
from agent.api.access import page_reader
from agent.api.context import Ctx
from agent.api.present import incident_out, lineage, status
from agent.api.problems import ApiError
from agent.api.routes.snapshots import catalogue
from agent.api.routes.status import Tag, Wait, etag
from agent.api.tokens import Principal
from agent.errors import SnapshotError
from agent.web import CONTENT_SECURITY_POLICY, Page, asset, render

router = APIRouter(include_in_schema=False)
INCIDENTS_SHOWN = 30


@router.get("/", response_class=HTMLResponse)
async def get_page(
    ctx: Ctx,
    _: Annotated[Principal, Depends(page_reader)],
    wait: Wait = 0.0,
    known: Tag = None,
) -> Response:
    """Return the page, or wait until it is another one."""
    if wait and known == etag(ctx.revision_tag):
        await ctx.changed(ctx.desk.revision, wait)
    headers = {
        "ETag": etag(ctx.revision_tag),
        "Cache-Control": "no-cache",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Frame-Options": "DENY",
    }
    return HTMLResponse(render(await _page(ctx)), headers=headers)


@router.get("/assets/{name}")
async def get_asset(name: str, known: Tag = None) -> Response:
    """Return one of the page's own files."""
    found = asset(name)
    if found is None:
        raise ApiError(404, "There is no such file.")
    headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
    if known == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.body, media_type=found.media_type, headers=headers)


async def _page(ctx: Ctx) -> Page:
    frame = ctx.frame()
    try:
        snapshots = (await catalogue(ctx)).model_dump(mode="json")
        shelf_error = ""
    except SnapshotError as error:
        snapshots, shelf_error = {"snapshots": [], "elsewhere": []}, error.message
    incidents = list(reversed(frame.state.ledger.incidents))[:INCIDENTS_SHOWN]
    return Page(
        status=status(frame).model_dump(mode="json"),
        lineage=lineage(frame).model_dump(mode="json"),
        incidents=[
            incident_out(frame, one).model_dump(mode="json") for one in incidents
        ],
        snapshots=snapshots["snapshots"],
        elsewhere=snapshots["elsewhere"],
        shelf_error=shelf_error,
        journal_error=ctx.desk.journal_error or "",
        version=__version__,
    )
