"""One machine of a real cluster, as the tests ask it.

Theory of operation. PostgreSQL and the agent are asked through their unix sockets,
which a cut network does not cut. An agent that does not answer is a value, no error.
"""

import http.client
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.system.world import Box, Program


@dataclass
class Node:
    """One machine of the cluster and what runs on it."""

    box: Box
    programs: dict[str, Program] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.box.name

    @property
    def patroni(self) -> Program:
        return self.programs["patroni"]

    @property
    def agent(self) -> Program:
        return self.programs["agent"]

    @property
    def data_dir(self) -> Path:
        return self.box.folder / "pg/data"

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask its PostgreSQL through the unix socket."""
        with psycopg.connect(
            host=str(self.box.folder / "pg"), user="postgres", dbname="postgres",
            autocommit=True, connect_timeout=3,
        ) as session:  # fmt: skip
            cursor = session.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def writable(self) -> bool:
        """Whether its PostgreSQL answers and is out of recovery."""
        try:
            return not self.query("SELECT pg_is_in_recovery()")[0][0]
        except psycopg.Error:
            return False

    def follows(self, winner: "Node") -> bool:
        """Whether it streams, on the winner's timeline, all that the winner has."""
        try:
            there = winner.query(
                "SELECT pg_current_wal_flush_lsn()::text, substr(pg_walfile_name("
                "pg_current_wal_insert_lsn()), 1, 8)"
            )[0]
            return self.query(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, "
                "lpad(to_hex(received_tli), 8, '0') = lower(%s) "
                "FROM pg_stat_wal_receiver", *there,
            ) == [(True, True)]  # fmt: skip
        except psycopg.Error:
            return False

    def ask(self, path: str, body: Any = None) -> Any:
        """Ask its agent through the unix socket; None when it does not answer.

        With a body it is posted.
        """
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(5)
            connection = http.client.HTTPConnection("agent")
            connection.sock = talk
            sent = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if sent else {}
            try:
                talk.connect(str(self.box.folder / "agent.sock"))
                connection.request("POST" if sent else "GET", path, sent, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                return None
        return json.loads(text) if answer.status // 100 == 2 else None

    def incidents(self) -> list[Any]:
        told: list[Any] = (self.ask("/v1/incidents") or {"incidents": []})["incidents"]
        return told

    def permits(self) -> list[Any]:
        told: list[Any] = (self.ask("/v1/guard/permits") or {"permits": []})["permits"]
        return told

    def acknowledge_all(self) -> None:
        """Take every incident that waits for a person."""
        for one in self.incidents():
            if one["sticky"] and one["status"] == "open":
                self.ask(f"/v1/incidents/{one['id']}/ack", {})

    def verdicts(self) -> set[tuple[str, str]]:
        """Verdict and subject of everything that its agent says now."""
        status = self.ask("/v1/status") or {"verdicts": []}
        return {(one["verdict"], one["subject"]) for one in status["verdicts"]}

    def postmaster(self) -> int:
        """The number of its postmaster inside of the box."""
        return int((self.data_dir / "postmaster.pid").read_text().split()[0])
