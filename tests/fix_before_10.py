"""PostgreSQL 9.5 and 9.6 from recorded answers: no package has such a server any more.

`tests/recorded/__main__.py` wrote down what real servers of 9.5.5 and 9.6.1 said and
had on disk. `Old` gives that back: data directories for whatever reads a disk, and a
server on a loopback port that speaks enough of PostgreSQL's protocol to give the
recorded row to whoever asks the probe's question, and to nobody else.
"""

import asyncio
import json
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.fix_network import Listener, Network

RECORDED = Path(__file__).parent / "recorded"
STATEMENT = (
    resources.files("agent.probe") / "sql/sight_before_10.sql"
).read_bytes()  # fmt: skip
SEGMENT = 16 * 1024 * 1024
PAGE = 8192
SSL_REQUEST = 80877103
OPENING = struct.Struct("!I")


@dataclass(frozen=True)
class Old:
    """One version, as it was recorded."""

    told: Any

    @property
    def version(self) -> str:
        """Such as `9.5.5`."""
        return str(self.told["recorded_from"].split()[1])

    @property
    def version_num(self) -> int:
        """Such as 90505."""
        first, second, third = map(int, self.version.split("."))
        return first * 10000 + second * 100 + third

    def answer(self, stage: str, node: str) -> str:
        """The row that answers the probe's statement."""
        return str(self.told[stage][node]["answer"])

    def printed(self, stage: str, node: str) -> str:
        """What pg_controldata of that version printed."""
        return "\n".join(self.told[stage][node]["controldata"])

    def data_dir(self, folder: Path, stage: str, node: str) -> Path:
        """Lay down what of a data directory was recorded; nothing runs on it."""
        said = self.told[stage][node]
        home = folder / f"{stage}-{node}"
        wal = home / "pg_xlog"
        wal.mkdir(parents=True)
        (home / "global").mkdir()
        control = bytes.fromhex(said["pg_control"])
        (home / "global/pg_control").write_bytes(control.ljust(PAGE, b"\0"))
        (home / "PG_VERSION").write_text(said["pg_version"])
        if said["recovery_conf"] is not None:
            (home / "recovery.conf").write_text(said["recovery_conf"])
        for name in said["pg_xlog"]:
            text = said["histories"].get(name)
            if text is None:
                self._segment(wal / name)
            else:
                (wal / name).write_text(text)
        return home

    def _segment(self, path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(SEGMENT)
            if path.name == self.told["beginning"]["segment"]:
                for number, page in self.told["beginning"]["pages"].items():
                    file.seek(int(number) * PAGE)
                    file.write(bytes.fromhex(page))

    async def serve(self, network: Network, stage: str, node: str) -> Listener:
        """Answer the probe's statement as that server did."""
        row = self.answer(stage, node).encode()
        return await network.listen(Speaker(self.version, row).serve)


@dataclass(frozen=True)
class Speaker:
    """The server's end of PostgreSQL's protocol, version 3, simple queries only."""

    version: str
    row: bytes

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Greet, then answer each question until the client leaves."""
        while True:
            (length,) = OPENING.unpack(await reader.readexactly(4))
            opening = await reader.readexactly(length - 4)
            if OPENING.unpack_from(opening)[0] != SSL_REQUEST:
                break
            writer.write(b"N")
        writer.write(message(b"R", OPENING.pack(0)))
        for name, value in (
            ("server_version", self.version), ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ):  # fmt: skip
            writer.write(message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(READY)
        while True:
            kind = await reader.readexactly(1)
            (length,) = OPENING.unpack(await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            if kind == b"X":
                return
            writer.write(self._answer(body.rstrip(b"\0")) + READY)

    def _answer(self, query: bytes) -> bytes:
        if query != STATEMENT:
            error = b"SERROR\0C42601\0Mnobody recorded an answer to this\0\0"
            return message(b"E", error)
        column = b"told\0" + struct.pack("!IHIhiH", 0, 0, 25, -1, -1, 0)
        size = OPENING.pack(len(self.row))
        return (
            message(b"T", struct.pack("!H", 1) + column)
            + message(b"D", struct.pack("!H", 1) + size + self.row)
            + message(b"C", b"SELECT 1\0")
        )


def message(kind: bytes, body: bytes) -> bytes:
    """One message of the protocol."""
    return kind + OPENING.pack(len(body) + 4) + body


READY = message(b"Z", b"I")


@pytest.fixture(params=("9.5", "9.6"))
def old(request: pytest.FixtureRequest) -> Old:
    """Each version that only recorded answers stand for."""
    text = (RECORDED / f"postgres-{request.param}.json").read_text("utf-8")
    return Old(json.loads(text))
