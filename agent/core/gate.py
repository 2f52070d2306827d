"""Whether HA software on this machine is led through the gate, as was found out.

Theory of operation. Every few minutes the shell reads what Patroni or repmgr is told
to do with a losing side: which program rewinds it, which makes it anew, and whether
its data may be deleted. Here that is data, and the rules judge it. What could not be
found out is a text that says why, and no trouble of its own: silence accuses nobody.
"""

from dataclasses import dataclass
from enum import StrEnum


class Wired(StrEnum):
    """Whether a node's resync goes through the gate."""

    WIRED = "wired"
    BYPASSABLE = "bypassable"
    """A rewind does, a replica made anew does not."""
    NOT_WIRED = "not wired"


@dataclass(frozen=True, slots=True)
class HaSoftware:
    """What one configuration of the server beside this agent says."""

    name: str
    """`Patroni` or `repmgr`."""
    file: str
    wired: Wired
    destructive: tuple[str, ...] = ()
    """Settings that are on and delete a loser's data before it is kept."""
    gaps: tuple[str, ...] = ()
    """What is missing at the gate, and what to do about it."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing, and harms nothing now."""
    broken: str = ""
    """Why the shim that is in front would not do its work; empty when it would."""
    unknown: str = ""
    """What of it could not be found out, and why; empty when nothing."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the last look at this machine's HA software found."""

    software: tuple[HaSoftware, ...] = ()
    unknown: str = ""
    """Why it is not known whether there is more; empty when it is."""
    elsewhere: str = ""
    """Whose configuration is here that is of another server; empty without one."""

    @property
    def wired(self) -> Wired | None:
        """How far the worst of them is led through the gate; None without any."""
        found = {one.wired for one in self.software}
        for worst in (Wired.NOT_WIRED, Wired.BYPASSABLE, Wired.WIRED):
            if worst in found:
                return worst
        return None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a loser here would not be held back until it is kept."""
        told = []
        for one in self.software:
            if one.destructive:
                told.append(
                    f"{one.name} is set to delete a loser's data"
                    f" ({' and '.join(one.destructive)}) with no guard in front of it"
                )
            elif one.wired is Wired.NOT_WIRED:
                told.append(f"the guard is not wired into {one.name}")
            if one.broken:
                told.append(f"the guard of {one.name} is broken: {one.broken}")
        return tuple(told)

    @property
    def line(self) -> str:
        """Its part of the node's standing line."""
        told = {
            None: "no HA software found here",
            Wired.WIRED: "guard wired",
            Wired.BYPASSABLE: "guard wired for rewinds only",
            Wired.NOT_WIRED: "guard not wired",
        }[self.wired]
        if self.wired is None and self.unknown:
            return f"guard not known: {self.unknown}"
        if self.wired is None and self.elsewhere:
            told = f"no HA software of this server found here ({self.elsewhere})"
        return f"{told}; not known: {'; '.join(self.unsure)}" if self.unsure else told

    @property
    def unsure(self) -> tuple[str, ...]:
        """What could not be found out, and why."""
        told = [*(one.unknown for one in self.software), self.unknown]
        return tuple(text for text in told if text)
