"""The oracles of what people announce and decide.

Theory of operation. An announced switchover makes the move that it is about news, and
nothing else: not while the former primary still accepts writes, and no split is ever
taken, or less grave, because of it. A decision on who is to be kept counts as it was
made; of two that exclude each other none does.
"""

from agent.core import event as events
from agent.core.incident import Incident, Status
from agent.core.machine import Step
from agent.core.state import Ledger, State
from agent.core.verdict import Family, Severity, Verdict, VerdictCode
from tests.sim.checkers import SETTLED_S, ViolatedError
from tests.sim.harness import Agent, Simulation, Watcher
from tests.sim.people import OWNER, People

SPLITS = (VerdictCode.SPLIT_BRAIN, VerdictCode.SPLIT_BRAIN_SUSPECTED)


class Pledges(Watcher):
    """Holds what is said of splits and moves against what people said."""

    def __init__(self, sim: Simulation, people: People) -> None:
        self.sim = sim
        self.people = people

    def stepped(
        self, agent: Agent, event: events.Event, before: State, made: Step
    ) -> None:
        state = made.state
        if state.view.verdicts is not before.view.verdicts:
            for verdict in state.view.verdicts:
                if verdict.family is Family.SPLIT:
                    self.an_announcement_hides_no_split(agent, verdict)
                    self.pins_that_clash_do_not_count(agent, verdict, state.ledger)
        if state.ledger.incidents is not before.ledger.incidents:
            old = {one.id for one in before.ledger.incidents if one.status.standing}
            for incident in state.ledger.incidents:
                if incident.status.standing and incident.id not in old:
                    self.a_plan_covers_no_writer(agent, incident)

    def an_announcement_hides_no_split(self, agent: Agent, verdict: Verdict) -> None:
        """A split is as grave as ever, whatever was announced."""
        lesser = verdict.code in SPLITS and verdict.severity is not Severity.CRITICAL
        if lesser or "planned_by" in verdict.evidence:
            words = f"{agent.name}: {verdict.code} is {verdict.severity}"
            raise ViolatedError("an_announcement_hides_no_split", words)

    def a_plan_covers_no_writer(self, agent: Agent, incident: Incident) -> None:
        """Nobody is spared a move whose former primary goes on accepting writes."""
        evidence = incident.verdict.evidence
        if incident.verdict.family is Family.SPLIT:
            if incident.acknowledged_by == OWNER:
                words = f"{agent.name}: {incident.verdict.code} was taken by the plan"
                raise ViolatedError("an_announcement_hides_no_split", words)
            return
        if incident.status is Status.OPEN or "planned_by" not in evidence:
            return
        server = self.sim.world.servers[str(evidence["from"])]
        since_s = self.sim.now_s - SETTLED_S
        for span in server.spans_of((server.name, server.started)):
            if span.end_s is None and span.begin_s < since_s:
                words = f"{agent.name}: {server!r} of a planned move still writes"
                raise ViolatedError("a_plan_covers_no_writer", words)

    def pins_that_clash_do_not_count(
        self, agent: Agent, verdict: Verdict, ledger: Ledger
    ) -> None:
        """Who is called pinned was decided so, and nobody is while two clash."""
        evidence = verdict.evidence
        if evidence.get("winner_rule") != "pinned":
            return
        made = self.people.decided.get(str(evidence.get("pinned_by")))
        if made is None or made.node != evidence.get("winner"):
            words = f"{agent.name}: {evidence.get('winner')} is called pinned: {made}"
            raise ViolatedError("a_pin_counts_as_it_was_made", words)
        standing = [
            one.id
            for one in ledger.incidents
            if one.verdict.family is Family.SPLIT and one.status is not Status.RESOLVED
        ]
        nodes = {pin.node for pin in ledger.pins if pin.incident in (None, *standing)}
        if len(nodes) > 1:
            words = f"{agent.name}: {made.node} counts, of {sorted(map(str, nodes))}"
            raise ViolatedError("pins_that_clash_do_not_count", words)
