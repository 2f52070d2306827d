"""The supervisor's control socket: one JSON line in, one JSON line out.

The socket lies in the state folder, open to its owner only. An answer is
`{"ok": true, "result": …}` or `{"ok": false, "message": …, "hint": …}`.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.errors import LabError, SplitguardError

LINE_BYTES_MAX = 1024 * 1024
ANSWER_S = 120.0

Handler = Callable[[str, dict[str, Any]], Awaitable[object]]


async def listen(path: Path, handler: Handler) -> asyncio.Server:
    """Answer requests on the socket at `path` until the server is closed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await _answer(await reader.readline(), handler)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the asker has gone, or sent no line
        finally:
            writer.close()

    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.fchmod(held.fileno(), 0o600)
    held.bind(str(path))
    return await asyncio.start_unix_server(talk, sock=held, limit=LINE_BYTES_MAX)


async def _answer(line: bytes, handler: Handler) -> dict[str, object]:
    try:
        request = json.loads(line)
        result = await handler(str(request.pop("do")), request)
    except SplitguardError as error:
        return {"ok": False, "message": error.message, "hint": error.hint}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"ok": False, "message": f"not understood: {error}", "hint": ""}
    return {"ok": True, "result": result}


def is_answered(path: Path) -> bool:
    """Whether somebody listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(path)) == 0


def ask(path: Path, do: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Ask the supervisor to do something; return its result. Blocking.

    Raises LabError when it is not there, or when it cannot do that.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer = json.loads(answers.readline(LINE_BYTES_MAX))
        except (OSError, ValueError) as error:
            raise LabError(
                f"no lab answers at {path}", "start one with: splitguard lab up"
            ) from error
    if not answer["ok"]:
        raise LabError(answer["message"], answer["hint"])
    return answer["result"]
