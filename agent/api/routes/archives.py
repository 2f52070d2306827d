"""Archives: a snapshot as one tar stream that can be taken up where it broke off.

The archive of a snapshot is always the same bytes, named by its ETag, so a client may
ask for the rest of it by Range and If-Range (RFC 9110, section 14), and compare the
whole with the digest, which is read anew from the disk.
"""

import asyncio
import re
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from agent.api.access import needs
from agent.api.context import Context, Ctx
from agent.api.models_shelf import DigestOut
from agent.api.ports import ArchiveOf
from agent.api.problems import ApiError
from agent.api.routes.snapshots import LIST_HINT, NO_SNAPSHOT
from agent.api.tokens import Scope
from agent.errors import SnapshotError

router = APIRouter(prefix="/v1/snapshots", tags=["snapshots"])
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})?")


@router.get(
    "/{snapshot_id}/archive",
    summary="The snapshot as a tar stream",
    dependencies=[needs(Scope.DATA)],
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-tar": {}}},
        206: {"content": {"application/x-tar": {}}, "description": "From a byte on."},
    },
)
async def get_archive(
    ctx: Ctx,
    snapshot_id: str,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    condition: Annotated[str | None, Header(alias="If-Range")] = None,
) -> StreamingResponse:
    """Stream the snapshot, as it lies on disk, as an uncompressed tar archive."""
    archive, tag = await _archive(ctx, snapshot_id)
    fits = condition is None or condition == tag
    start, end = _part(wanted if fits else None, archive.size)
    pieces = _cut(archive.stream(start), end - start)
    # The first piece is made before the answer begins, so that a snapshot which can
    # not be read is a problem with a status and not a broken stream.
    try:
        first = await asyncio.to_thread(next, pieces, b"")
    except SnapshotError as error:
        raise _not_whole(error) from error
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{snapshot_id}.tar"',
        "Content-Length": str(end - start),
        "ETag": tag,
    }
    whole = (start, end) == (0, archive.size)
    if not whole:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{archive.size}"
    return StreamingResponse(
        chain((first,), pieces),
        status_code=200 if whole else 206,
        media_type="application/x-tar",
        headers=headers,
    )


@router.get(
    "/{snapshot_id}/archive/digest",
    summary="The SHA-256 of the archive",
    dependencies=[needs(Scope.DATA)],
)
async def get_digest(ctx: Ctx, snapshot_id: str) -> DigestOut:
    """Read the archive anew, as it would be sent, and return its digest."""
    archive, tag = await _archive(ctx, snapshot_id)
    try:
        digest = await asyncio.to_thread(ctx.shelf.digest, archive)
    except SnapshotError as error:
        raise _not_whole(error) from error
    return DigestOut(
        id=snapshot_id,
        bytes=archive.size,
        sha256=digest,
        etag=tag,
    )


async def _archive(ctx: Context, snapshot_id: str) -> tuple[ArchiveOf, str]:
    """Return the archive and its ETag; with many files both take a while."""

    def made() -> tuple[ArchiveOf, str]:
        archive = ctx.shelf.archive(snapshot_id)
        return archive, f'"{archive.tag}"'

    if await asyncio.to_thread(ctx.shelf.show, snapshot_id) is None:
        raise ApiError(404, NO_SNAPSHOT, LIST_HINT)
    try:
        return await asyncio.to_thread(made)
    except SnapshotError as error:
        raise _not_whole(error) from error


def _not_whole(error: SnapshotError) -> ApiError:
    """Return the refusal of a snapshot that is there and not what it should be."""
    return ApiError(500, error.message, error.hint or None)


def _part(wanted: str | None, size: int) -> tuple[int, int]:
    """Return the first byte to send and the one behind the last.

    A range that we do not know is ignored, as RFC 9110 allows; one behind the end is
    refused with 416.
    """
    match = _RANGE.fullmatch(wanted) if wanted is not None else None
    if match is None:
        return 0, size
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if start >= size or start >= end:
        raise ApiError(
            416,
            f"The archive has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _cut(pieces: Iterator[bytes], left: int) -> Iterator[bytes]:
    """Yield no more than `left` bytes."""
    for piece in pieces:
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)
