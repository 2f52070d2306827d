"""The oracles: what must hold in every world, one function each.

Theory of operation. Some look at each step that an agent makes, some at each second of
the world, some at what is done to a server. Each compares what is claimed with the
truth and raises `ViolatedError` with its own name when they differ. None of them knows
how an agent comes to its conclusions.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent import codec
from agent.core import event as events
from agent.core import machine, rules, weather
from agent.core.incident import Incident, Status
from agent.core.lsn import Lsn
from agent.core.machine import Step
from agent.core.notice import Notice, NoticeReason
from agent.core.pageprint import PAGE_BYTES
from agent.core.permit import Permit, PermitState
from agent.core.state import Knowledge, Ledger, SplitProof, State
from agent.core.verdict import Fact, Family, Verdict, VerdictCode
from tests.sim import wal
from tests.sim.ha import Resync
from tests.sim.harness import BEGIN_S, Agent, Simulation, Watcher
from tests.sim.server import Server
from tests.sim.truth import Truth

DOWN_BOUND_S = 8.0
"""A machine that is silent for so long must be called down by who can see that."""
DOWN_IN_BAD_WEATHER_S = 12.0
"""The same by who has just lost questions on the way to others."""
BACK_S = 6.0
"""So long after its isolation an agent may take to tell of a death: it accuses nobody
before it has asked again. That is the bound in bad weather without the seven rounds of
misses, which go on meanwhile, and with the one round until it asks."""
SPLIT_BOUND_S = 8.0
FORK_BOUND_S = 12.0
MOVED_BOUND_S = 12.0
COURT_S = 12.0
"""Whoever has watched for so long, undisturbed, has no excuse."""
ISOLATED_S = 6.0
SETTLED_S = 6.0
"""What has been so for so long is known to whoever could see it."""
STALE_S = 3.0
TAPE_LIMIT = 600
CALM_S = 2.0
"""A trouble that was gone for less than this is the same one: what it takes to resolve
one, less what it takes to see it again."""


class ViolatedError(Exception):
    """An oracle was violated."""

    def __init__(self, oracle: str, words: str) -> None:
        super().__init__(f"{oracle}: {words}")
        self.oracle = oracle


@dataclass(frozen=True)
class Begun:
    """When an incident was opened, and when what it is about had last been well."""

    now_s: float
    well: Mapping[str, float]
    """By part of the node."""


@dataclass
class Score:
    """How often what was said, and how often it was false or missing."""

    verdicts: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    due: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    """What violated an oracle that was only to count."""
    words: list[str] = field(default_factory=list)
    """What was false, or missing, and when."""

    def note(self, kind: str, now_s: float, words: str) -> None:
        """Write down what was only to count."""
        self.words.append(f"{kind} at {now_s:.2f} s: {words}")


class Oracles(Watcher):
    """Watches a simulation and judges it."""

    def __init__(self, sim: Simulation, truth: Truth) -> None:
        self.sim = sim
        self.world = sim.world
        self.truth = truth
        self.score = Score()
        self.loud = True
        """Whether a false word raises; else it is only counted."""
        self.first: dict[tuple[str, str], dict[str, tuple[float, str]]] = defaultdict(
            dict
        )
        """By family and subject: incident ids of which people were told, when, and of
        which part of the node."""
        self.begun: dict[str, Begun] = {}
        """By incident id: when anybody first opened it."""
        self.moves: dict[tuple[str | int, ...], str] = {}
        """By where, to which timeline, the how-manieth of that number there, and from
        which later promotion it came back, if any: the id told for the move."""
        self.well: dict[tuple[str, str], float] = {}
        """By node and part of it: when it last had been without trouble for CALM_S."""
        self.recorded: set[tuple[str, Fact]] = set()
        """To where, and to which timeline, any incident says the primary moved."""
        self.leader = ""
        """The last primary that a court could watch for a while."""
        self.dues: set[tuple[object, ...]] = set()
        self.over: dict[str, set[str]] = defaultdict(set)
        """By agent: ids of incidents that it has called over."""
        self.lost: Counter[tuple[str, str, str]] = Counter()
        """By agent, node and channel: how many questions in a row went unanswered."""
        self.cut_off_s: dict[str, float] = {}
        """By agent: when it last said, and had reason to, that it is isolated."""
        self.winners: dict[tuple[str, str], Fact] = {}
        self._tapes: dict[str, State] = {}

    # --- each step ------------------------------------------------------------------

    def stepped(
        self, agent: Agent, event: events.Event, before: State, made: Step
    ) -> None:
        state = made.state
        self._asked(agent, event, state)
        if state.view.proofs is not before.view.proofs:
            for proof in state.view.proofs:
                if proof not in before.view.proofs:
                    self.split_only_if_two_wrote(agent, proof)
        if isinstance(event, events.Ticked):
            self.isolated_accuses_nobody(agent, state.view.verdicts)
            self._count(state.view.verdicts)
        if state.ledger.incidents is not before.ledger.incidents:
            self._incidents_moved(agent, before.ledger, state.ledger)
        if state.ledger.permits is not before.ledger.permits:
            self._permits_moved(agent, before.ledger, state.ledger)

    def _asked(self, agent: Agent, event: events.Event, state: State) -> None:
        """Note what went unanswered, and when so much did that it is isolated."""
        if isinstance(event, events.Observed):
            seen = event.observation
            place = (agent.name, seen.node, seen.channel.value)
            self.lost[place] = 0 if seen.outcome.alive else self.lost[place] + 1
        says = any(
            one.code is VerdictCode.OBSERVER_ISOLATED for one in state.view.verdicts
        )
        if says and self._hears_no_majority(agent):
            self.cut_off_s[agent.name] = self.world.now_s

    def _hears_no_majority(self, agent: Agent) -> bool:
        """Whether it has lost so many questions that most voters are silent to it."""
        policy = agent.policy
        heard = [
            one
            for one in policy.voters
            if one == agent.name
            or any(
                self.lost[agent.name, one, way.value] < policy.missed_to_accuse
                for way in policy.channels[one]
            )
        ]
        return len(heard) < self.truth.majority

    @property
    def _age_s(self) -> float:
        """For how long this world has been played."""
        return self.world.now_s - BEGIN_S

    def _incidents_moved(self, agent: Agent, before: Ledger, after: Ledger) -> None:
        self.one_incident_for_one_trouble(agent, after)
        old = {one.id: one.status for one in before.incidents}
        for incident in after.incidents:
            new = old.get(incident.id) in (None, Status.PENDING)
            if incident.status is Status.OPEN and new:
                self._opened(agent, incident)
            if incident.verdict.code is VerdictCode.FAILOVER:
                told = incident.verdict.evidence
                self.recorded.add((str(told.get("to")), told.get("to_timeline")))
            if incident.status is Status.RESOLVED:
                if incident.id not in self.over[agent.name]:
                    self.no_split_is_over_beside_a_loser(agent, incident, after)
                self.over[agent.name].add(incident.id)
            elif incident.id in self.over[agent.name]:
                words = f"{agent.name}: {incident.verdict.code} again as {incident.id}"
                raise ViolatedError("what_is_over_is_not_opened_again", words)
            if incident.verdict.family is Family.SPLIT:
                self.the_prediction_is_frozen(agent, incident)

    def _permits_moved(self, agent: Agent, before: Ledger, after: Ledger) -> None:
        known = {one.id: one.state for one in before.permits}
        for permit in after.permits:
            granted = permit.state is PermitState.GRANTED
            if granted and known.get(permit.id) is not PermitState.GRANTED:
                self.no_permit_without_protection(agent, permit)

    def _count(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            self.score.verdicts[verdict.code.value] += 1

    def _opened(self, agent: Agent, incident: Incident) -> None:
        code = incident.verdict.code
        self.score.opened[code.value] += 1
        self._begins(incident)
        false = ""
        if code is VerdictCode.NODE_DOWN:
            false = self._false_death(incident.verdict)
        elif code is VerdictCode.FAILOVER:
            false = self._false_move(incident.verdict)
        elif code in (VerdictCode.LINEAGE_DIVERGED, VerdictCode.LINEAGE_TWIN):
            false = self._false_fork(incident.verdict)
        elif code is VerdictCode.STALE_PRIMARY:
            false = self._false_loss(incident.verdict)
        if not false:
            return
        self.score.false[code.value] += 1
        self.score.note(f"false {code.value}", self._age_s, f"{agent.name}: {false}")
        if self.loud:
            raise ViolatedError("nothing_false_is_told", f"{agent.name}: {false}")

    def _false_death(self, verdict: Verdict) -> str:
        """A majority cannot have missed who answered all but a few of them."""
        subject, truth = verdict.subject, self.truth
        if self.loud and not truth.calm(SETTLED_S):
            return ""
        able = [
            one
            for one in truth.witnesses(subject, SETTLED_S)
            if truth.watching(one, SETTLED_S)
        ]
        gone = [
            one
            for one in truth.voters
            if max(truth.lasted_s("mute agent", one), truth.lasted_s("off", one))
            >= SETTLED_S
        ]
        others = set(truth.voters) - {*able, *gone, subject}
        if len(others) >= truth.majority:
            return ""
        return f"{subject} is down, but {','.join(able)} could see it"

    def _false_move(self, verdict: Verdict) -> str:
        to = str(verdict.evidence.get("to"))
        spans = self._spans(to)
        now_s = self.world.now_s
        if any(span.reaches(now_s) > now_s - 10.0 for span in spans):
            return ""
        return f"the primary moved to {to}, which accepted no writes lately"

    def _spans(self, node: str):
        server = self.world.servers[node]
        return [span for spans in server.spans.values() for span in spans]

    def _false_loss(self, verdict: Verdict) -> str:
        """Something that a primary held must really be missing."""
        servers = self.world.servers
        now, told = servers[verdict.subject].tip, verdict.evidence
        place = (told["reached_timeline"], told["reached_lsn"])
        for server in servers.values():
            for top in server.tops.values():
                lost = wal.beyond(top, now)
                if any((one.timeline, str(Lsn(one.lsn))) == place for one in lost):
                    return ""
        return f"{verdict.subject} lacks nothing that any primary held"

    def _false_fork(self, verdict: Verdict) -> str:
        winner = str(verdict.evidence.get("winner"))
        losers = [n for n in str(verdict.evidence.get("losers")).split(",") if n]
        for loser in losers:
            server = self.world.servers[loser]
            recent = self.world.now_s - server.moved_s < SETTLED_S
            if recent or self.world.diverged(loser, winner):
                return ""
            if wal.fork(server.tip, self.world.servers[winner].tip) is not server.tip:
                return ""
        return f"{losers} hold nothing that {winner} lacks"

    # --- the oracles of steps -------------------------------------------------------

    def split_only_if_two_wrote(self, agent: Agent, proof: SplitProof) -> None:
        """A proof names two runs that were writable at the same instant."""
        first = _run(proof.first, proof.evidence.get("first_started"))
        second = _run(proof.second, proof.evidence.get("second_started"))
        if first != second and self.world.overlapped(first, second):
            return
        self.score.false["split-brain"] += 1
        words = f"{agent.name}: {first} and {second} by {proof.method}"
        self.score.note("false split-brain", self._age_s, words)
        if self.loud:
            raise ViolatedError("split_only_if_two_wrote", words)

    def the_prediction_is_frozen(self, agent: Agent, incident: Incident) -> None:
        """Who will probably be kept does not change while it may still be kept."""
        place = (agent.name, incident.id)
        evidence = incident.verdict.evidence
        new, old = evidence.get("winner"), self.winners.get(place)
        if evidence.get("winner_rule") == "pinned" or "pins_disputed" in evidence:
            self.winners[place] = None  # people decide otherwise as they like
            return
        split = incident.verdict.code is VerdictCode.SPLIT_BRAIN
        if not split or incident.status is Status.RESOLVED:
            self.winners.pop(place, None)
            return
        self.winners[place] = new
        if old is None or new is None or old == new:
            return
        server = self.world.servers[str(old)]
        fact = ("answers", server.name, server.started, "False")
        if server.writable and self.truth.lasted_s(*fact) >= SETTLED_S:
            words = f"{agent.name}: {old} was predicted, now {new}"
            raise ViolatedError("the_prediction_is_frozen", words)

    def isolated_accuses_nobody(
        self, agent: Agent, verdicts: tuple[Verdict, ...]
    ) -> None:
        """Who cannot reach a majority speaks of itself only, and says why."""
        truth, name = self.truth, agent.name
        if not truth.watching(name, ISOLATED_S):
            return
        if len(truth.reachable(name, ISOLATED_S)) >= truth.majority:
            return
        accused = [
            one
            for one in verdicts
            if rules.BY_NUMBER[one.rule].accuses and one.subject != name
        ]
        says = any(one.code is VerdictCode.OBSERVER_ISOLATED for one in verdicts)
        if accused or not says:
            words = [f"{one.code}({one.subject})" for one in verdicts]
            raise ViolatedError("isolated_accuses_nobody", f"{name} says {words}")

    def no_split_is_over_beside_a_loser(
        self, agent: Agent, incident: Incident, ledger: Ledger
    ) -> None:
        """What a split has named is not over while it holds what the primary lacks.

        Not even where nobody can read the history of the primary.
        """
        court = self.truth.court(COURT_S)
        if incident.verdict.family is not Family.SPLIT or agent.name not in court:
            return
        if not self.truth.calm(SETTLED_S) or any(
            one.verdict.family is Family.SPLIT and one.status.standing
            for one in ledger.incidents
        ):
            return  # it goes on under another id
        primary = self._sole_primary(court, SETTLED_S)
        if primary is None:
            return
        for name in incident.sides:
            server = self.world.servers[name]
            if name in court and self._is_loser(server, primary, SETTLED_S):
                words = f"{agent.name}: {incident.id} is over, and {server!r} is not"
                self._broken("no_split_is_over_beside_a_loser", words)

    def one_incident_for_one_trouble(self, agent: Agent, ledger: Ledger) -> None:
        """No agent has two living incidents of one family on one subject."""
        living = Counter(
            (one.verdict.family, one.verdict.subject)
            for one in ledger.incidents
            if one.status is not Status.RESOLVED
        )
        twice = [key for key, number in living.items() if number > 1]
        ids = Counter(one.id for one in ledger.incidents)
        if twice or max(ids.values(), default=1) > 1:
            words = f"{agent.name}: {twice or ids}"
            raise ViolatedError("one_incident_for_one_trouble", words)

    def no_permit_without_protection(self, agent: Agent, permit: Permit) -> None:
        """What is granted is kept: the whole WAL up to where the server ended."""
        server = self.world.servers[agent.name]
        age_s = self.sim.moment(agent.name).monotonic_s - (
            agent.state.view.server_read_s
        )
        if self.world.now_s - server.moved_s <= age_s + 0.01:
            return  # it moved after the disk was read; the shim looks once more
        kept = self.sim.kept.get(permit.capture_id or "")
        reason = ""
        if server.running:
            reason = "its server runs"
        elif permit.final_lsn != server.lsn or permit.timeline != server.timeline:
            reason = f"it is for {permit.final_lsn}, the server ends at {server.tip!r}"
        elif kept is None or not kept.protects(server.tip):
            proven = None if kept is None else kept.proven or kept.read
            reason = f"{permit.capture_id} is proven to {proven!r}, not {server.tip!r}"
        if reason:
            words = f"{agent.name} has granted {permit.id}, but {reason}"
            raise ViolatedError("no_permit_without_protection", words)

    # --- what is done to servers ------------------------------------------------------

    def no_acknowledged_write_is_lost(self, resync: Resync) -> None:
        """What the gate lets be destroyed is in a snapshot, and on record."""
        if resync.how in ("around the gate", PermitState.RELEASED):
            return
        world, agent = self.world, self.sim.agents[resync.node]
        on_record = any(
            one.id == resync.permit and one.state is PermitState.GRANTED
            for one in agent.journal.ledger.permits
        )
        if not on_record:
            words = f"{resync.permit} is not in the journal of {resync.node}"
            raise ViolatedError("no_permit_without_protection", words)
        server, source = world.servers[resync.node], world.servers[resync.source]
        kept = [one for one in self.sim.kept.values() if one.node == resync.node]
        for record in wal.beyond(server.tip, source.tip):
            if record not in world.acknowledged:
                continue
            if not any(one.keeps(record) for one in kept):
                words = f"{record!r} of {resync.node} is on no snapshot"
                raise ViolatedError("no_acknowledged_write_is_lost", words)

    # --- notices --------------------------------------------------------------------

    def noticed(self, agent: Agent, notice: Notice) -> None:
        if notice.reason is not NoticeReason.FIRST:
            return
        found = [
            one
            for one in self.sim.incidents(agent.name)
            if one.id == (notice.incident_id)
        ]
        if found:
            self.no_new_id_for_an_old_trouble(agent, found[0])

    def no_new_id_for_an_old_trouble(self, agent: Agent, incident: Incident) -> None:
        """One trouble that never ended is told under one id."""
        verdict = incident.verdict
        if verdict.code is VerdictCode.FAILOVER:
            self._one_id_for_a_move(agent, incident)
        if verdict.family not in (Family.REACH, Family.SELF):
            return
        if verdict.code is VerdictCode.MANAGER_DOWN:
            return
        told = self.first[verdict.family.value, verdict.subject]
        now_s, part = self.world.now_s, _part(verdict.code)
        begun = self._begins(incident)
        over = incident.status is Status.RESOLVED
        for known, (when_s, before) in told.items():
            if known == incident.id or {part, before} == {"agent", "server"}:
                continue  # what was told of is the same, or was another trouble
            since_s, well = when_s, self._well_of(verdict.subject)
            if over and self.begun[known].now_s > begun.now_s:
                # News that was held up, of what was over before the other one began.
                since_s, well = begun.now_s, self.begun[known].well
            ended_s = max(well.get(one, 0.0) for one in (part, before))
            if ended_s < since_s - CALM_S:
                words = (
                    f"{agent.name}: {verdict.code} of {verdict.subject} as"
                    f" {incident.id}, told {now_s - when_s:.0f} s ago as {known}"
                )
                self._broken("no_new_id_for_an_old_trouble", words)
        told.setdefault(incident.id, (begun.now_s if over else now_s, part))

    def _begins(self, incident: Incident) -> Begun:
        """Return when it was first opened: now, if it is not known yet."""
        now = Begun(self.world.now_s, self._well_of(incident.verdict.subject))
        return self.begun.setdefault(incident.id, now)

    def _well_of(self, node: str) -> Mapping[str, float]:
        """By part of a node: when it last had been without trouble for CALM_S."""
        return {
            part: when_s for (one, part), when_s in self.well.items() if one == node
        }

    def _one_id_for_a_move(self, agent: Agent, incident: Incident) -> None:
        evidence = incident.verdict.evidence
        timeline = evidence.get("to_timeline")
        if not isinstance(timeline, int):
            return
        to = (str(evidence["to"]), timeline)
        begun = self.world.promotions[to]
        left = self._left_since(evidence, to)
        old = self.moves.setdefault((*to, begun, *left), incident.id)
        if old != incident.id:
            words = f"{agent.name}: the move to {to} was {old}"
            raise ViolatedError("no_new_id_for_an_old_trouble", words)

    def _left_since(
        self, evidence: Mapping[str, Fact], to: tuple[str, int]
    ) -> tuple[str | int, ...]:
        """Return from which later promotion a primary came back; nothing if from none.

        That is another trouble. Who tells the old news knows of no later promotion.
        """
        source, number = evidence.get("from"), evidence.get("from_timeline")
        if not isinstance(source, str) or not isinstance(number, int):
            return ()
        place, promoted = (source, number), self.world.promoted_s
        if promoted.get(place, -1.0) <= promoted.get(to, -1.0):
            return ()
        return (*place, self.world.promotions[place])

    # --- each second ---------------------------------------------------------------

    def look(self) -> None:
        """Look at the world once a second."""
        now_s = self.world.now_s
        for name in self.world.names:
            for part in self._well_parts(name):
                self.well[name, part] = now_s
        if not self.truth.calm(DOWN_BOUND_S):
            return
        court = self.truth.court(COURT_S)
        if not court:
            return
        self.never_silent_about_a_death(court)
        self.never_silent_about_a_split(court)
        self.never_silent_about_a_fork(court)
        self.never_silent_about_a_move(court)
        self.stale_permits_are_void()

    def _well_parts(self, name: str) -> Iterable[str]:
        """What of a node has been without trouble for CALM_S.

        Who can ask a majority is not isolated, though nobody may ask it; whom somebody
        can ask is seen, though it may ask nobody.
        """
        truth = self.truth
        others = [one for one in truth.voters if one not in self.world.dead]
        asks = sum(("shut", name, one) not in truth.since for one in others)
        asked = sum(("shut", one, name) not in truth.since for one in others)
        agent = truth.lasted_s("agent", name) >= CALM_S
        server = truth.lasted_s("server", name) >= CALM_S
        server = server or truth.lasted_s("another server", name) > 0.0
        if agent:
            yield "agent"
        if agent and asks >= truth.majority:
            yield "self"
        if server:
            yield "server"
        if (agent or server) and asked >= min(2, truth.majority):
            yield "node"

    def _broken(self, oracle: str, words: str) -> None:
        """Raise, or only count while rough weather is played for its rates."""
        self.score.broken.append(words)
        if self.loud:
            raise ViolatedError(oracle, words)

    def _due(self, what: str, *episode: object) -> None:
        """Count what had to be said, once for each trouble."""
        if (what, *episode) not in self.dues:
            self.dues.add((what, *episode))
            self.score.due[what] += 1

    def _missing(self, what: str, words: str, *episode: object) -> None:
        """Somebody does not say what had to be said."""
        if ("missed", what, *episode) not in self.dues:
            self.dues.add(("missed", what, *episode))
            self.score.missed[what] += 1
            self.score.note(f"missed {what}", self._age_s, words)
        if self.loud:
            raise ViolatedError("never_silent_past_the_bound", words)

    def never_silent_about_a_death(self, court: tuple[str, ...]) -> None:
        """A silent machine is called down by everybody who is in the majority."""
        for name in self.world.names:
            if not self.truth.silent(name, DOWN_BOUND_S) or name in court:
                continue
            since_s = self.truth.silent_since(name)
            self._due("node-down", name, since_s)
            for judge in court:
                if not self.truth.silent(name, self._bound_s(judge)):
                    continue
                if self.world.now_s - self.cut_off_s.get(judge, -BACK_S) < BACK_S:
                    continue  # isolated, it accuses nobody, nor before it asks again
                if not self._says(judge, name, VerdictCode.NODE_DOWN):
                    words = f"{judge} does not say that {name} is down"
                    self._missing("node-down", words, name, since_s)

    def _bound_s(self, judge: str) -> float:
        """How long a death may take to be told by whoever this is."""
        agent, at = self.sim.agents[judge], self.sim.moment(judge)
        before = replace(at, monotonic_s=at.monotonic_s - CALM_S)
        bad = weather.is_bad(agent.state.view, before, agent.policy)
        return DOWN_IN_BAD_WEATHER_S if bad else DOWN_BOUND_S

    def _says(self, judge: str, subject: str, *codes: VerdictCode) -> bool:
        """Whether it is a verdict there, and an incident if there is memory.

        In rough weather a verdict comes and goes with what is lost, and only memory
        bridges that: who has none for a while is not judged there.
        """
        state = self.sim.agents[judge].state
        said = any(
            one.code in codes and one.subject == subject for one in state.view.verdicts
        )
        wanted = {code.value for code in codes}
        known = any(
            one.status.standing
            and one.verdict.subject == subject
            and not wanted.isdisjoint(
                {one.verdict.code.value, *(flip.verdict for flip in one.history)}
            )
            for one in state.ledger.incidents
        )
        return self._is_said(judge, said=said, known=known)

    def _is_said(self, judge: str, *, said: bool, known: bool) -> bool:
        """Whether a verdict and an incident together say what had to be said."""
        if self.loud and not said:
            return False
        if self.truth.lasted_s("remembers", judge) < DOWN_BOUND_S:
            return said or known or not self.loud
        return known

    def _visible(self, name: str, court: tuple[str, ...], seconds: float) -> bool:
        """Whether the court could read a server as it is now, for so long."""
        server = self.world.servers[name]
        fact = ("answers", name, server.started, str(server.in_recovery))
        return self.truth.lasted_s(*fact) >= seconds and all(
            self.truth.open(judge, name, seconds) for judge in court
        )

    def _sole_primary(self, court: tuple[str, ...], seconds: float) -> Server | None:
        """The only server that has accepted writes for so long, if all can read it."""
        writable = self.world.writable
        alone = self.truth.lasted_s("writable", *writable) >= seconds
        if len(writable) != 1 or not alone:
            return None
        server = self.world.servers[writable[0]]
        return server if self._visible(server.name, court, seconds) else None

    def never_silent_about_a_split(self, court: tuple[str, ...]) -> None:
        """Two visible servers that accept writes are called a split brain."""
        two = [
            name
            for name in self.world.writable
            if self._visible(name, court, SPLIT_BOUND_S)
        ]
        if len(two) < 2:
            return
        runs = tuple((name, self.world.servers[name].runs) for name in two)
        self._due("split-brain", runs)
        for judge in court:
            if not self._says(judge, "cluster", VerdictCode.SPLIT_BRAIN):
                words = f"{judge} does not say that {two} are split"
                self._missing("split-brain", words, runs)

    def never_silent_about_a_fork(self, court: tuple[str, ...]) -> None:
        """A server that holds what the only primary lacks is named a loser."""
        primary = self._sole_primary(court, FORK_BOUND_S)
        if primary is None:
            return
        if self.truth.lasted_s("readable", primary.name, "True") < FORK_BOUND_S:
            return  # nobody can know its history: see no_split_is_over_beside_a_loser
        for server in self.world.servers.values():
            if server.name in court and self._is_loser(server, primary, FORK_BOUND_S):
                if _has_no_wal_of(server, primary):
                    continue  # a print that nobody can read proves nothing
                self._due("lineage", server.name, server.moved_s)
                for judge in court:
                    self._names_a_loser(judge, server)

    def _is_loser(self, server: Server, primary: Server, seconds: float) -> bool:
        """Whether it has long, and for everybody to read, been past the fork."""
        readable = ("readable", server.name, str(server.running))
        if self.truth.lasted_s(*readable) < seconds or server.single_user:
            return False
        if self.world.now_s - server.moved_s < seconds or server is primary:
            return False
        met = wal.fork(server.tip, primary.tip)
        if met is None or met is server.tip or server.prints_from:
            return False
        same = server.lineage.timeline == primary.lineage.timeline
        hidden = same and server.fingerprints == primary.fingerprints
        hidden = hidden or _went_on_alike(server, primary, met)
        if hidden and server.lsn > met.lsn:
            return self._a_page_shows_it(server, primary, seconds)
        return server.lsn > met.lsn

    def _a_page_shows_it(self, server: Server, primary: Server, seconds: float) -> bool:
        """Whether the last page that is whole on both has long been another one."""
        page = Lsn(server.lsn // PAGE_BYTES * PAGE_BYTES - PAGE_BYTES)
        passed = [
            one.written_s
            for one in wal.back(primary.tip)
            if one.lsn >= page + PAGE_BYTES
        ]
        if not passed or self.world.now_s - passed[-1] < seconds:
            return False
        prints = [wal.Pages().of(one.tip, (page,)) for one in (server, primary)]
        return all(prints) and prints[0] != prints[1]

    def _names_a_loser(self, judge: str, server: Server) -> None:
        loser = server.name
        codes = (
            VerdictCode.LINEAGE_DIVERGED,
            VerdictCode.LINEAGE_TWIN,
            VerdictCode.SPLIT_BRAIN,
        )
        state = self.sim.agents[judge].state
        standing = [one for one in state.ledger.incidents if one.status.standing]
        said, known = (
            any(
                one.code in codes and loser in str(one.evidence.get("losers"))
                for one in verdicts
            )
            for verdicts in (state.view.verdicts, [one.verdict for one in standing])
        )
        if self._is_said(judge, said=said, known=known):
            return
        words = f"{judge} does not say that {loser} holds what the primary lacks"
        self._missing("lineage", words, loser, server.moved_s)

    def never_silent_about_a_move(self, court: tuple[str, ...]) -> None:
        """A new primary is known to all who can read it, and is on record."""
        leader = self._sole_primary(court, MOVED_BOUND_S)
        if leader is None or self.leader == leader.name:
            return
        moved, self.leader = bool(self.leader), leader.name
        if not moved:
            return
        self._due("failover", leader.name, leader.runs)
        for judge in court:
            if self.truth.lasted_s("remembers", judge) < MOVED_BOUND_S:
                continue  # it follows no primary before the move is on its record
            known = self.sim.agents[judge].state.knowledge.primary
            if known is None or known.node != leader.name:
                words = f"{judge} does not know that {leader.name} is primary"
                self._missing("failover", words, leader.name, leader.runs)
        place = (leader.name, leader.timeline)
        if not {place, (leader.name, None)} & self.recorded:
            words = f"nobody has put on record that the primary moved to {place}"
            self._missing("failover", words, leader.name, leader.runs)

    def stale_permits_are_void(self) -> None:
        """A grant does not outlive what it was given for."""
        for name, server in self.world.servers.items():
            agent = self.sim.agents[name]
            fact = ("readable", name, str(server.running))
            if self.truth.lasted_s(*fact) < STALE_S or server.single_user:
                continue
            if self.world.now_s - server.moved_s < STALE_S:
                continue
            if self.truth.lasted_s("remembers", name) < STALE_S:
                continue  # what it has found out since may not be on disk yet
            for permit in agent.state.ledger.permits:
                if permit.state is not PermitState.GRANTED:
                    continue
                same = permit.timeline == server.timeline
                past = (
                    same
                    and permit.final_lsn is not None
                    and (server.lsn > permit.final_lsn)
                )
                if server.running or past:
                    words = f"{permit.id} for {permit.final_lsn} stands: {server!r}"
                    raise ViolatedError("a_permit_is_void_when_the_server_moves", words)

    # --- memory -----------------------------------------------------------------------

    def booted(self, agent: Agent) -> None:
        """Crash and restart: text and back again gives what was written."""
        for place in [one for one in self.lost if one[0] == agent.name]:
            del self.lost[place]
        journal = agent.journal
        if journal.load() != (journal.ledger, journal.knowledge):
            words = f"the journal of {agent.name} reads otherwise than it was written"
            raise ViolatedError("a_restart_gives_the_same_state", words)

    def record(self, name: str) -> None:
        """Begin to record what an agent is told."""
        agent = self.sim.agents[name]
        if self.sim.runs(name) and not agent.journal.full:
            agent.tape = []
            self._tapes[name] = agent.state

    def replay_gives_the_same_state(self, name: str) -> None:
        """The recorded events, through text and back, lead to the same state."""
        agent = self.sim.agents[name]
        tape, start = agent.tape, self._tapes.pop(name, None)
        agent.tape = None
        if tape is None or start is None:
            return
        state = State(
            codec.from_json(codec.to_json(start.ledger), Ledger),
            codec.from_json(codec.to_json(start.knowledge), Knowledge),
            start.view,
        )
        for event in tape[:TAPE_LIMIT]:
            told = codec.from_json(codec.to_json(event), type(event))
            state = machine.step(state, told, agent.policy).state
        if len(tape) <= TAPE_LIMIT and state != agent.state:
            words = f"{agent.name} comes out differently after {len(tape)} events"
            raise ViolatedError("replay_gives_the_same_state", words)


def _went_on_alike(server: Server, primary: Server, met: wal.Record) -> bool:
    """Whether both wrote on under one timeline number, so that no history shows it.

    A machine that is set back does. It shows when one has left that timeline before
    where the other is on it; else only pages do.
    """
    ours, theirs = wal.beyond(server.tip, met), wal.beyond(primary.tip, met)
    after = {one[-1].timeline for one in (ours, theirs) if one}
    if after != {met.timeline} or server.timeline != met.timeline:
        return False
    left = [one.lsn for one in primary.lineage.switches if one.timeline == met.timeline]
    return not left or server.lsn <= left[0]


def _has_no_wal_of(server: Server, primary: Server) -> bool:
    """Whether the primary's disk has nothing to hold against what this server wrote.

    Both began one timeline number at one place, apart, so that no number shows it but
    where the primary has left that timeline and the server went further. Else a print
    tells of it: of the beginning, or of a page. A primary that is a clone of somebody
    further on has never had a byte of either.
    """
    met = wal.fork(server.tip, primary.tip)
    ours, theirs = wal.beyond(server.tip, met), wal.beyond(primary.tip, met)
    if met is None or not ours or not theirs:
        return False
    number = server.timeline
    if {ours[-1].timeline, theirs[-1].timeline} != {number} or number == met.timeline:
        return False
    left = [one.lsn for one in primary.lineage.switches if one.timeline == number]
    if left and server.lsn > left[0]:
        return False
    last_page = server.lsn // PAGE_BYTES * PAGE_BYTES - PAGE_BYTES
    return max(met.lsn, last_page) < primary.prints_from


def _run(node: str, started: Fact) -> tuple[str, str]:
    """Whose run it is: an address may lead to another node's server."""
    text = str(started or "")
    return (text.split(maxsplit=1)[0] if text else node, text)


def _part(code: VerdictCode) -> str:
    """Which part of a node a verdict is about."""
    parts = {
        VerdictCode.POSTGRES_DOWN: "server",
        VerdictCode.AGENT_DOWN: "agent",
        VerdictCode.OBSERVER_ISOLATED: "self",
    }
    return parts.get(code, "node")
