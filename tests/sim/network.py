"""Links between machines: cut, blocked one way, mute, lossy, slow.

Theory of operation. What is cut loses every packet, so nothing that needs an answer
gets through in either direction. What is blocked one way refuses to begin a
conversation in that direction (a firewall); the other way works. A mute channel takes
the question and never answers. Loss makes a question go unanswered by dice. Each
change is dated, so that an oracle can ask since when a link has been as it is.
"""

import random
from dataclasses import dataclass, field

from agent.core.observation import Channel

ROUND_TRIP_S = 0.004
Way = tuple[str, str]


@dataclass
class Network:
    """Who reaches whom, and how well."""

    cut: set[Way] = field(default_factory=set)
    """Packets from the first to the second are lost."""
    blocked: set[Way] = field(default_factory=set)
    """The first cannot begin a conversation with the second."""
    mute: set[tuple[str, str, Channel]] = field(default_factory=set)
    """Questions on this channel are taken and never answered."""
    slow: dict[Way, float] = field(default_factory=dict)
    """Seconds that are added to a round trip that the first began."""
    floor: float = 0.0
    """A loss that is always there."""
    loss: float = 0.0
    """How often a question goes unanswered, 0 to 1."""
    jitter_s: float = 0.0
    touched: dict[Way, float] = field(default_factory=dict)
    """When anything of a pair was last changed, by sorted pair."""

    def passes(self, asker: str, target: str) -> bool:
        """Whether a conversation that `asker` begins works at all."""
        if asker == target:
            return True
        cut = self.cut
        return not (
            (asker, target) in cut
            or (target, asker) in cut
            or (asker, target) in self.blocked
        )

    def answers(self, asker: str, target: str, channel: Channel) -> bool:
        return self.passes(asker, target) and (asker, target, channel) not in self.mute

    def delay_s(self, asker: str, target: str, dice: random.Random) -> float:
        """How long this round trip takes, in world time."""
        slow_s = self.slow.get((asker, target), 0.0) if self.slow else 0.0
        jitter_s = dice.random() * self.jitter_s if self.jitter_s else 0.0
        return ROUND_TRIP_S + slow_s + jitter_s

    def loses(self, asker: str, target: str, dice: random.Random) -> bool:
        loss = max(self.loss, self.floor)
        return bool(loss) and asker != target and dice.random() < loss

    def touch(self, first: str, second: str, now_s: float) -> None:
        self.touched[min(first, second), max(first, second)] = now_s

    def quiet_since(self, first: str, second: str) -> float:
        """Since when nothing of this pair was changed."""
        return self.touched.get((min(first, second), max(first, second)), 0.0)

    def heal(self, first: str, second: str, now_s: float) -> None:
        """Make everything between two machines well again."""
        pair = {first, second}
        before = len(self.cut) + len(self.blocked) + len(self.mute) + len(self.slow)
        self.cut = {way for way in self.cut if set(way) != pair}
        self.blocked = {way for way in self.blocked if set(way) != pair}
        self.mute = {one for one in self.mute if set(one[:2]) != pair}
        self.slow = {k: v for k, v in self.slow.items() if set(k) != pair}
        after = len(self.cut) + len(self.blocked) + len(self.mute) + len(self.slow)
        if before != after:
            self.touch(first, second, now_s)
