"""What all stories share: saying what happens, waiting with a limit, asking agents.

A story never waits for the clock when it can wait for a fact, and every wait has a
limit: a story that hangs tells nobody anything.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from agent.errors import LabError
from agent.lab.handle import Lab
from agent.lab.receiver import read_notices
from agent.lab.sights import agent_get, standings
from agent.lab.standing import Standing
from agent.lab.web import CallError, send_json

LOOK_S = 0.1
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Telling:
    """An incident as one agent tells it."""

    agent: str
    detail: Mapping[str, Any]
    """`/v1/incidents/{id}`."""


class Stage:
    """A running lab, on which a story is played."""

    def __init__(self, lab: Lab, say: Say) -> None:
        self.lab = lab
        self.plan = lab.plan
        self._say = say
        self._began_s = time.monotonic()

    def say(self, words: str) -> None:
        """Tell the person what happens, with the seconds since the story began."""
        self._say(f"{time.monotonic() - self._began_s:6.1f} s  {words}")

    def until(self, what: str, seconds: float, look: Callable[[], T | None]) -> T:
        """Return what `look` finds. Raises LabError when it finds nothing in time."""
        found = self.may(seconds, look)
        if found is None:
            notes = "; ".join(f"{s.name}: {s.note}" for s in self.standings().values())
            raise LabError(f"waited {seconds:g} s for {what} in vain ({notes})")
        return found

    def may(self, seconds: float, look: Callable[[], T | None]) -> T | None:
        """Return what `look` finds within so many seconds, or None."""
        until = time.monotonic() + seconds
        while True:
            found = look()
            if found is not None or time.monotonic() > until:
                return found
            time.sleep(LOOK_S)

    def standings(self) -> dict[str, Standing]:
        """Return what the managers that answer say of themselves."""
        return standings(self.plan)

    def all_agents_answer(self) -> bool:
        """Whether no agent is missing; one that was killed takes a while to be back."""
        names = [node.name for node in self.plan.nodes]
        return all(agent_get(self.plan, name, "/v1/incidents") for name in names)

    def incidents(self) -> list[Telling]:
        """Return every incident of every agent that answers, with its history."""
        found = []
        for node in self.plan.nodes:
            listed = agent_get(self.plan, node.name, "/v1/incidents") or {}
            for brief in listed.get("incidents", []):
                path = f"/v1/incidents/{brief['id']}"
                detail = agent_get(self.plan, node.name, path)
                if detail is not None:
                    found.append(Telling(node.name, detail))
        return found

    def open_incident(
        self, *verdicts: str, subject: str | None = None
    ) -> Telling | None:
        """Return an incident that has one of these verdicts now and is not over."""
        for telling in self.incidents():
            detail = telling.detail
            if detail["verdict"] not in verdicts or detail["status"] == "pending":
                continue
            if subject in (None, detail["subject"]) and detail["resolved"] is None:
                return telling
        return None

    def notices(self) -> list[dict[str, Any]]:
        """Return the messages that the receiver took, repetitions left out."""
        arrivals = read_notices(self.lab.layout.notices)
        return [each for each in arrivals if each["accepted"] and not each["repeated"]]

    def acknowledge(self, telling: Telling) -> None:
        """Take an incident at the agent that tells of it, as an operator would."""
        url = f"{self.plan.agent_url(telling.agent)}/v1/incidents"
        try:
            send_json(
                "POST",
                f"{url}/{telling.detail['id']}/ack",
                {"who": "the story"},
                token=self.plan.secrets.operate,
            )
        except CallError as error:
            self.say(f"{telling.agent} did not take the acknowledgement: {error}")


def wall_s(stamp: str) -> float:
    """Return an RFC 3339 instant as wall seconds."""
    return datetime.fromisoformat(stamp).timestamp()


def flip_at(telling: Telling, after_s: float, *verdicts: str) -> float | None:
    """Return when an incident first stood open with one of these verdicts."""
    return min(
        (
            wall_s(flip["at"])
            for flip in telling.detail["history"]
            if flip["verdict"] in verdicts
            and flip["status"] != "pending"
            and wall_s(flip["at"]) >= after_s
        ),
        default=None,
    )


def span(begin: float | None, end: float | None) -> float | None:
    """Return the seconds between two instants; None when one of them never came."""
    if begin is None or end is None:
        return None
    return round(max(0.0, end - begin), 3)
