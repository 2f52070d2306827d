"""Whether the runs that a proof names are over: one of them that ended ends the split.

Theory of operation. A run of a server never comes back. So an answer to a question that
was asked after the proof, and that shows another run or recovery, ends the run: else a
loser that was resynced and is then cut off would look like one that may still write.

But an address may lead to another node's server for a while, and what that one answers
says nothing of this one. An answer of a run that is known under another name too ends
nothing. Where that is not known, the run itself tells: whoever is read out of recovery
by a question that was asked after the answer that ended it has not ended.
"""

from collections.abc import Iterable

from agent.core.detector import key
from agent.core.frozen import replace
from agent.core.observation import Channel, Observation, PostgresSight
from agent.core.state import SplitProof, View


def settled(view: View, seen: Observation) -> tuple[SplitProof, ...]:
    """Return the proofs after this answer, or this report of answers."""
    if not view.proofs:
        return ()
    answers = tuple(_answers(seen))
    proofs = tuple(_settled(view, one, answers, seen) for one in view.proofs)
    return view.proofs if proofs == view.proofs else proofs


def _answers(seen: Observation) -> Iterable[tuple[str, PostgresSight, float]]:
    """Return whose server answered what, and after which instant on our clock."""
    if seen.postgres is not None:
        yield seen.node, seen.postgres, seen.sent_s
    for told in seen.report.sights if seen.report is not None else ():
        if told.postgres is not None and told.outcome.alive:
            yield told.node, told.postgres, seen.sent_s - told.age_s


def _settled(
    view: View,
    proof: SplitProof,
    answers: Iterable[tuple[str, PostgresSight, float]],
    seen: Observation,
) -> SplitProof:
    """Mark whose run an answer shows to be over, or not to be over after all."""
    started = {
        proof.first: proof.evidence.get("first_started"),
        proof.second: proof.evidence.get("second_started"),
    }
    ended = dict(proof.ended)
    for node, sight, after_s in answers:
        if node not in started or after_s <= proof.proven_s:
            continue
        if sight.in_recovery or sight.postmaster_started != started[node]:
            if not _is_of_another(view, node, sight):
                ended[node] = seen.received_s
        elif after_s >= ended.get(node, after_s):
            ended.pop(node, None)
    return proof if ended == proof.ended else replace(proof, ended=ended)


def _is_of_another(view: View, node: str, sight: PostgresSight) -> bool:
    """Whether another node's address was seen to lead to the server that answered."""
    run = (sight.postmaster_started, sight.system_id)
    return any(
        seen.postgres is not None
        and (seen.postgres.postmaster_started, seen.postgres.system_id) == run
        for name, seen in view.alive.items()
        if seen.node != node and name == key(seen.node, Channel.POSTGRES)
    )
