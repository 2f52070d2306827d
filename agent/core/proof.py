"""Proof that two nodes accepted writes at once, without synchronised clocks.

Theory of operation. A server that is out of recovery stays so until its process
ends: nothing but a restart takes a running PostgreSQL back into recovery. Two ways
lead to a proof.

Three readings (a): one observer reads A, then B, then A again, each question sent
after the former answer had come, all out of recovery, A by the same postmaster both
times. B's reading lies within the time for which A was writable. When a second
writable server comes into sight, the first one is asked again at once; so it goes on,
each answer being followed by the question to the other, until there is a proof.

Overlapping intervals (b): after a cut, each side knows for how long its own server
was writable, on its own clock. A report that one side had from the other ties the
two clocks together; the intervals, shortened by the uncertainty of that exchange and
by the drift of the clocks since, must still overlap.

One server under two names proves nothing but a wrong configuration.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from agent.core.action import AskAgain
from agent.core.detector import key
from agent.core.event import Event, Observed
from agent.core.frozen import replace
from agent.core.moment import Moment
from agent.core.observation import (
    Channel,
    Heard,
    Observation,
    PostgresSight,
    ReadFailure,
    Report,
    ServerFacts,
    WritableSpan,
)
from agent.core.policy import Policy
from agent.core.proof_end import settled
from agent.core.state import Reading, SplitProof, State, View, WritableSince
from agent.core.verdict import Fact

THREE_READINGS = "three readings"
OVERLAP = "overlapping intervals"

READINGS_PER_NODE = 4
SPANS_PER_NODE = 3
SPAN_KEPT_S = 1800.0
"""An interval that ended longer ago proves nothing new."""
PROOFS_KEPT = 8
PROOF_KEPT_S = 2 * SPAN_KEPT_S
"""Longer than an interval, so that an old one cannot be proven a second time."""


def questions(
    before: State, after: State, event: Event, policy: Policy
) -> tuple[AskAgain, ...]:
    """Ask the writable nodes again, at the first sight of another one.

    And whenever it answers, as long as nothing is proven: what was asked may be lost.
    """
    if not isinstance(event, Observed):
        return ()
    node = event.observation.node
    fresh = _of(after.view, node)
    if not fresh or fresh[-1].sent_s != event.observation.sent_s:
        return ()
    others = {
        one.node: one
        for one in after.view.readings
        if one.node != node and event.at.monotonic_s - one.received_s <= policy.fresh_s
    }
    known = any(_same_run(one, fresh[-1]) for one in _of(before.view, node))
    return tuple(
        AskAgain(other, Channel.POSTGRES)
        for other, last in others.items()
        if not known or _may_be_proven(after, fresh[-1], last, policy)
    )


def _may_be_proven(state: State, one: Reading, other: Reading, policy: Policy) -> bool:
    """Whether two runs are in no proof yet, and may be: else asking has no end."""
    pair = {(run.node, run.postmaster_started) for run in (one, other)}
    for proof in state.view.proofs:
        runs = _runs(proof)
        if pair <= runs or (pair & runs and not proof.over):
            return False
    alike = one.system_id == other.system_id
    return alike and not same_server(state, one.node, other.node, policy)


def collect(state: State, seen: Observation, at: Moment, policy: Policy) -> State:
    """Keep the proofs that this observation completes, and mark those it ends."""
    kept = settled(state.view, seen)
    if kept != state.view.proofs:
        state = replace(state, view=replace(state.view, proofs=kept))
    if seen.report is not None:
        found = _by_overlap(state, seen.report, at, policy)
    else:
        found = _by_readings(state, seen.node, at, policy)
    known = {_episode(one) for one in state.view.proofs}
    new = tuple(one for one in found if _episode(one) not in known)
    if not new:
        return state
    proofs = (*state.view.proofs, *new)[-PROOFS_KEPT:]
    return replace(state, view=replace(state.view, proofs=proofs))


def readings_after(
    view: View, seen: Observation, sight: PostgresSight
) -> tuple[Reading, ...]:
    """Return the readings out of recovery after this answer.

    Whatever is not of the same run of the server ends what was read before.
    """
    others = tuple(one for one in view.readings if one.node != seen.node)
    if sight.in_recovery:
        return others
    new = Reading(
        seen.node,
        seen.sent_s,
        seen.received_s,
        sight.postmaster_started,
        sight.system_id,
        sight.timeline,
    )
    same = tuple(one for one in _of(view, seen.node) if _same_run(one, new))
    return (*others, *same[-(READINGS_PER_NODE - 1) :], new)


def spans_after(
    view: View, seen: Observation, sight: PostgresSight, policy: Policy
) -> tuple[WritableSince, ...]:
    """Return for how long each server was out of recovery, after this answer.

    From the answer that first showed it to the latest question that did: the
    shortest time that the readings prove. An answer under this agent's own name counts
    only if the disk beside it may be that server's: the address may lead elsewhere.
    """
    if sight.in_recovery:
        return view.writable
    if seen.node == policy.me and _is_not_writable(view.server):
        return view.writable
    others = [one for one in view.writable if one.node != seen.node]
    own = [one for one in view.writable if one.node == seen.node]
    run = (sight.postmaster_started, sight.timeline)
    before = [(o.postmaster_started, o.timeline) for o in _of(view, seen.node)]
    if own and run in before and own[-1].postmaster_started == run[0]:
        own[-1] = replace(own[-1], last_s=max(own[-1].last_s, seen.sent_s))
    else:
        at_s, system = seen.received_s, sight.system_id
        own.append(WritableSince(seen.node, run[0], at_s, at_s, system))
    return (*others, *own[-SPANS_PER_NODE:])


def _is_not_writable(disk: ServerFacts | ReadFailure | None) -> bool:
    """Whether the disk beside this agent says that its server takes no writes."""
    return isinstance(disk, ServerFacts) and (disk.standby_signal or not disk.running)


def trimmed(view: View, at: Moment) -> View:
    """Drop intervals and proofs that are too old to matter."""
    now_s = at.monotonic_s
    spans = tuple(s for s in view.writable if now_s - s.last_s <= SPAN_KEPT_S)
    proofs = tuple(p for p in view.proofs if now_s - p.proven_s <= PROOF_KEPT_S)
    return replace(view, writable=spans, proofs=proofs)


def same_server(state: State, first: str, second: str, policy: Policy) -> bool:
    """Whether two names lead to one server.

    Either the agents beside them read one identity, or the two answer with one system
    id and start of the postmaster: an address that leads to another node's server.
    """
    identities = tuple(_identity(state, one, policy) for one in (first, second))
    if None not in identities and identities[0] == identities[1]:
        return True
    runs = [_of(state.view, one)[-1:] for one in (first, second)]
    if not all(runs):
        return False
    ours, theirs = runs[0][0], runs[1][0]
    return (ours.postmaster_started, ours.system_id) == (
        theirs.postmaster_started,
        theirs.system_id,
    )


def _identity(state: State, node: str, policy: Policy) -> str | None:
    if node == policy.me:
        server = state.view.server
        return server.identity if isinstance(server, ServerFacts) else None
    heard = state.view.reports.get(node)
    report = heard.report if heard is not None else None
    if report is None or report.server is None:
        return None
    return report.server.identity


def _of(view: View, node: str) -> tuple[Reading, ...]:
    return tuple(one for one in view.readings if one.node == node)


def _same_run(one: Reading, other: Reading) -> bool:
    """Whether two readings are of one run of one server on one timeline."""
    return (one.postmaster_started, one.system_id, one.timeline) == (
        other.postmaster_started,
        other.system_id,
        other.timeline,
    )


def _episode(proof: SplitProof) -> tuple[object, ...]:
    """Return what tells one split from another: a pair of runs has but one."""
    evidence = proof.evidence
    return (
        proof.first,
        evidence.get("first_started"),
        proof.second,
        evidence.get("second_started"),
    )


def _by_readings(
    state: State, node: str, at: Moment, policy: Policy
) -> Iterable[SplitProof]:
    """Look for A, B, A with the newest reading of `node` as the last one."""
    own = _of(state.view, node)
    if not own:
        return
    last = own[-1]
    earlier = [
        one for one in own[:-1] if last.received_s - one.sent_s <= policy.fresh_s
    ]
    for other in state.view.readings:
        if other.node == node or other.received_s > last.sent_s:
            continue
        if other.system_id != last.system_id:
            continue
        if not any(one.received_s <= other.sent_s for one in earlier):
            continue
        if not same_server(state, node, other.node, policy):
            yield _proof((last, other), THREE_READINGS, at, policy)


def _proof(
    pair: tuple[Reading, Reading], method: str, at: Moment, policy: Policy
) -> SplitProof:
    first, second = sorted(pair, key=lambda one: policy.order[one.node])
    return SplitProof(
        first=first.node,
        second=second.node,
        method=method,
        proven_s=at.monotonic_s,
        evidence={
            "first_started": first.postmaster_started,
            "second_started": second.postmaster_started,
            "first_timeline": first.timeline,
            "second_timeline": second.timeline,
        },
    )


def _by_overlap(
    state: State, report: Report, at: Moment, policy: Policy
) -> Iterable[SplitProof]:
    """Look for a time for which both servers are known to have been writable."""
    anchor = _anchor(state.view, report, at, policy)
    if anchor is None or same_server(state, policy.me, report.node, policy):
        return
    heard, sent_s, slack_s = anchor
    theirs = _run(report.node, _told(report))
    if _of_two_systems(state, report, theirs, policy):
        return
    for own in state.view.writable:
        # One and the same run: an address leads to the other node's server.
        same = own.postmaster_started == theirs.postmaster_started
        if own.node != policy.me or same or _has_proof(state.view, own, report.node):
            continue
        for span in report.writable[-SPANS_PER_NODE:]:
            if span.system_id and own.system_id not in ("", span.system_id):
                continue  # one of them was set up anew since
            start_s, end_s = _on_our_clock(span, heard, policy)
            told = (sent_s + start_s + slack_s, sent_s + end_s)
            overlap_s = min(own.last_s, told[1]) - max(own.first_s, told[0])
            if overlap_s > 0 and not _denied(state.view, report.node, told):
                present = _is_present(span, report)
                age_s = max(at.monotonic_s - own.last_s, span.ended_age_s)
                ended = not present or age_s > policy.fresh_s
                proof = _overlap_proof(own, report, at, policy, present=present)
                more = {"overlap_s": round(overlap_s, 1), "ended": ended}
                yield replace(proof, evidence={**proof.evidence, **more})
                break


def _is_present(span: WritableSpan, report: Report) -> bool:
    """Whether a span is of the run that the report shows, and not of one before it."""
    sight = _told(report).get(report.node)
    ends = _is_not_writable(report.server) or (sight is not None and sight.in_recovery)
    return span is report.writable[-1] and not ends


def _denied(view: View, peer: str, span: tuple[float, float]) -> bool:
    """Whether the peer's server was read in recovery within this time, by us.

    Then what its agent tells of that time contradicts the server's own answer.
    """
    seen = view.latest.get(key(peer, Channel.POSTGRES))
    if seen is None or seen.postgres is None or not seen.postgres.in_recovery:
        return False
    return span[0] < seen.sent_s and seen.received_s < span[1]


def _of_two_systems(
    state: State, report: Report, theirs: Reading, policy: Policy
) -> bool:
    """Whether the peer's server never was of one cluster with the local one."""
    server = report.server
    told = theirs.system_id or (server.lineage.system_id if server is not None else "")
    own = {one.system_id for one in _of(state.view, policy.me)}
    return bool(told and own) and told not in own


def _has_proof(view: View, own: WritableSince, peer: str) -> bool:
    """Whether this run of the local server was proven against the peer before."""
    mine = (own.node, own.postmaster_started)
    return any(
        mine in _runs(one) and peer in (one.first, one.second) for one in view.proofs
    )


def _runs(proof: SplitProof) -> AbstractSet[tuple[str, Fact]]:
    """Return the two runs that a proof names."""
    return {
        (proof.first, proof.evidence.get("first_started")),
        (proof.second, proof.evidence.get("second_started")),
    }


def _anchor(
    view: View, report: Report, at: Moment, policy: Policy
) -> tuple[Heard, float, float] | None:
    """Return the last report of ours that the peer had, and when it had it.

    That is the instant at which we made it, on our clock, and by how many seconds
    later the peer may have had it: until we made the next one, and a round trip.
    """
    made = dict(view.sent)
    for heard in report.heard:
        if heard.node == policy.me and heard.boot_id == view.boot_id:
            sent_s = made.get(heard.sequence)
            if sent_s is None:
                return None
            next_s = made.get(heard.sequence + 1, at.monotonic_s)
            slack_s = max(policy.round_s, next_s - sent_s) + heard.round_trip_s
            return heard, sent_s, slack_s
    return None


def _on_our_clock(
    span: WritableSpan, heard: Heard, policy: Policy
) -> tuple[float, float]:
    """Return a peer's span in seconds after the exchange, shortened by the drift."""
    start_s = heard.age_s - span.started_age_s
    end_s = heard.age_s - span.ended_age_s
    drift = policy.clock_drift
    return start_s + abs(start_s) * drift, end_s - abs(end_s) * drift


def _overlap_proof(
    own: WritableSince, report: Report, at: Moment, policy: Policy, *, present: bool
) -> SplitProof:
    """Put the proof down; no report names a run of the peer that is over."""
    told = _told(report)
    proof = _proof((_run(own.node, told), _run(report.node, told)), OVERLAP, at, policy)
    sides = {proof.first: "first_started", proof.second: "second_started"}
    other = {} if present else {sides[report.node]: ""}
    runs = {sides[own.node]: own.postmaster_started, **other}
    return replace(proof, evidence={**proof.evidence, **runs})


def _told(report: Report) -> dict[str, PostgresSight]:
    """Return what a report tells of each server that it has read."""
    return {sight.node: sight.postgres for sight in report.sights if sight.postgres}


def _run(node: str, told: Mapping[str, PostgresSight]) -> Reading:
    """Return what a report tells of a server, as a reading without a time."""
    sight = told.get(node)
    if sight is None:
        return Reading(node, 0.0, 0.0, "", "", None)
    started, system_id = sight.postmaster_started, sight.system_id
    return Reading(node, 0.0, 0.0, started, system_id, sight.timeline)
