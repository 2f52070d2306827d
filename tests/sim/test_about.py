"""Whom a row says that alone it can be about: nobody else may fire it.

Theory of operation. In a world where much goes wrong every row is tried on everybody of
its scope, each second, at each agent. A row that fires for somebody whom it had left
out would hide a trouble.
"""

from agent.core import rules
from agent.core.event import Ticked
from agent.core.scene import build
from tests.sim.harness import Watcher
from tests.sim.soak import Rough

SPARING = tuple((row, row.about) for row in rules.TABLE if row.about is not None)


class Judge(Watcher):
    """Tries the sparing rows on everybody."""

    def __init__(self):
        self.fired = set()
        self.left_out = set()

    def stepped(self, agent, event, before, made):
        if not isinstance(event, Ticked):
            return
        scene = build(made.state, event.at, agent.policy)
        subjects = rules._subjects(scene)
        for row, subjects_of in SPARING if not scene.starting else ():
            about = subjects_of(scene)
            for subject in subjects[row.scope]:
                if row.condition(scene, subject) is not None:
                    found = self.fired if subject in about else self.left_out
                    found.add((row.number, subject))


def test_no_row_leaves_out_who_can_fire_it():
    played = Rough(18)
    judge = Judge()
    played.sim.watchers.append(judge)
    for kind in ("isolate", "answer as another system", "switch a machine off"):
        played.sim.run(5.0)
        played.faults.harm((kind,))
    played.sim.run(5.0)
    played.sim.world.heal()
    played.faults.harm(("leave a standby far behind",))
    played.sim.run(5.0)
    assert not judge.left_out
    assert {201, 211, 301, 801} <= {number for number, _ in judge.fired}
