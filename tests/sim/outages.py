"""The oracles of what stands still: a server, an agent, all writes.

Theory of operation. They are asked of whoever has watched, and could see all of it, for
so long that the rule's hold time and two rounds have passed. What is silent must be on
record with each of them: as itself, or as a part of something graver in the same
family. In bad weather nobody is judged: there only the rates of `tests.sim.soak` count.
"""

from agent.core.incident import Incident
from agent.core.maintenance import running
from agent.core.policy import Policy
from agent.core.verdict import Family
from tests.sim.checkers import BACK_S, COURT_S, DOWN_BOUND_S, Oracles, ViolatedError
from tests.sim.harness import Agent


class Outages:
    """Holds what agents have on record against what stands still."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self.sim = oracles.sim
        self.world = oracles.world
        self.truth = oracles.truth
        policy: Policy = next(iter(self.sim.agents.values())).policy
        self.server_s = DOWN_BOUND_S + policy.open_hold_s
        self.agent_s = DOWN_BOUND_S + policy.open_hold_warning_s
        self.primary_s = DOWN_BOUND_S + policy.no_primary_hold_s

    def look(self) -> None:
        """Look at the world once a second."""
        if not self.truth.calm(COURT_S):
            return
        court = [self.sim.agents[one] for one in self.truth.court(COURT_S)]
        if not court:
            return
        self.never_silent_about_a_stopped_server(court)
        self.never_silent_about_a_stopped_agent(court)
        self.never_silent_about_no_primary(court)

    def never_silent_about_a_stopped_server(self, court: list[Agent]) -> None:
        """A PostgreSQL that answers nobody beside an agent that does is on record.

        Or it is a side of a split that is. Where a switchover is announced, one may
        be stopped for longer.
        """
        for name in self.world.servers:
            mute_s = self.truth.lasted_s("mute server", name)
            agent_s = self.truth.lasted_s("agent", name)
            if min(mute_s, agent_s) < self.server_s:
                continue
            for judge in self._who_could_see(name, court, self.server_s):
                if running(judge.state, self.sim.moment(judge.name)):
                    continue
                if not _has(judge, name, Family.REACH) and not _splits(judge, name):
                    self._missing(judge, f"PostgreSQL of {name} is down")

    def never_silent_about_a_stopped_agent(self, court: list[Agent]) -> None:
        """An agent that answers nobody beside a server that does is on record."""
        for name in self.world.names:
            mute_s = self.truth.lasted_s("mute agent", name)
            server_s = self.truth.lasted_s("server", name)
            if min(mute_s, server_s) < self.agent_s:
                continue
            for judge in self._who_could_see(name, court, self.agent_s):
                if not _has(judge, name, Family.REACH):
                    self._missing(judge, f"the agent of {name} is down")

    def never_silent_about_no_primary(self, court: list[Agent]) -> None:
        """That nobody accepts writes is on record with all who can see that.

        Or that the primary moved is, to one that has gone since.
        """
        if self.truth.lasted_s("writable") < self.primary_s:
            return
        if not all(map(self._is_known, self.world.servers)):
            return
        judges = court
        for name in self.world.servers:
            judges = self._who_could_see(name, judges, self.primary_s)
        for judge in judges:
            if not _has(judge, "cluster", Family.PRIMARY):
                self._missing(judge, "nobody accepts writes")

    def _is_known(self, name: str) -> bool:
        """Whether a server has stood still, or answered as a standby, for so long."""
        server, seconds = self.world.servers[name], self.primary_s
        answers = ("answers", name, server.started, str(True))
        mute_s = self.truth.lasted_s("mute server", name)
        agent_s = self.truth.lasted_s("agent", name)
        return (
            min(mute_s, agent_s) >= seconds
            or self.truth.silent(name, seconds)
            or self.truth.lasted_s(*answers) >= seconds
        )

    def _who_could_see(
        self, name: str, court: list[Agent], seconds: float
    ) -> list[Agent]:
        """Those of a court who could ask a machine, and put down what they found."""
        now_s, truth, cut_off_s = self.world.now_s, self.truth, self.oracles.cut_off_s
        return [
            judge
            for judge in court
            if truth.watching(judge.name, seconds)
            and truth.lasted_s("remembers", judge.name) >= seconds
            and truth.open(judge.name, name, seconds)
            and now_s - cut_off_s.get(judge.name, -BACK_S) >= BACK_S
        ]

    def _missing(self, judge: Agent, words: str) -> None:
        codes = sorted(self.sim.codes(judge.name))
        words = f"{judge.name} does not say that {words}, but {', '.join(codes)}"
        raise ViolatedError("never_silent_past_the_bound", words)


def _standing(judge: Agent) -> list[Incident]:
    return [one for one in judge.state.ledger.incidents if one.status.standing]


def _has(judge: Agent, subject: str, family: Family) -> bool:
    """Whether a standing incident of the family is about this subject."""
    return any(
        one.verdict.family is family and one.verdict.subject == subject
        for one in _standing(judge)
    )


def _splits(judge: Agent, name: str) -> bool:
    """Whether the node is a side of a split that is on record."""
    return any(
        one.verdict.family is Family.SPLIT and name in one.sides
        for one in _standing(judge)
    )
