"""What a stand-in manager is like, what is wrong with it, and where it sits.

`Traits` never change while it runs; `Faults` are switched by a test or by
`POST /lab/v1/faults`; `Office` is the machine that it belongs to, which alone knows
its cluster. Nothing here does anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol

import psycopg

Connect = Callable[[], psycopg.Connection]
"""Connects to the manager's database as its owner, with autocommit. Blocking; raises
psycopg.Error. A manager of the 4.x line works on the server beside it, a later one on
whichever leads."""

WORKERS = 4
"""So many requests are answered at a time: gunicorn's workers on a manager."""


@dataclass(frozen=True, slots=True)
class Traits:
    """A manager's version and manners."""

    version: str = "4.5.5"
    password: str = field(default="admin", repr=False)
    """Of `admin`, the bootstrap administrator."""
    tenant: str = "default_tenant"
    more_tenants: tuple[str, ...] = ()
    ssl_required: bool = False
    """Whether the plain port sends every client to the one with TLS."""
    license: str = "valid"
    """`valid`, `missing` or `expired`: of a premium manager from 5.0.5 on."""
    edition: str = "premium"
    """`premium` or `community`: the latter restores nothing of a legacy snapshot."""
    database_password: str = field(default="", repr=False)
    """What a create's answer gives away; empty: the administrator's."""
    others: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More users and their passwords; each has the role `default` alone."""
    stall_s: float = 45.0
    """How long a request waits while the database is a standby, from 5.0.5 on."""
    listener_timeout_s: float = 10.0
    """How long a snapshot in the new format listens at its end for late changes."""
    broker_hang_s: float = 120.0
    """How long a request waits for a message broker that is not there."""
    broker_look_s: float = 3.0
    """How long `/ok` and `/status` look for it."""
    work_s: float = 0.3
    """The least that an execution takes. The field's takes 2 to 18 s."""
    lock_after: int = 4
    """So many wrong passwords in a row lock an account."""
    open_status: bool = False
    """Whether `/status` tells anybody, as the HAProxy check of 4.x expects of the one
    that is active. The field's wants a login; a lab's older probes have none."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Return the names of all tenants."""
        return (self.tenant, *self.more_tenants)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the version's numbers."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def all_active(self) -> bool:
        """Whether every manager of a cluster is active, as from 5.0.5 on."""
        return self.numbers >= (5, 0, 5)

    @property
    def has_new_format(self) -> bool:
        """Whether it makes snapshots of the new format, which block nobody."""
        return self.numbers >= (7, 0)


@dataclass(slots=True)
class Faults:
    """What is wrong with this manager now."""

    broker_dead: bool = False
    """RabbitMQ does not answer: a create hangs and leaves its rows behind."""
    worker_dead: bool = False
    """The mgmtworker does nothing: what was begun stays as it is, for ever."""
    disk_full: bool = False
    """Archives cannot be written."""
    database_down: bool = False
    """The database refuses connections. The real one may do so by itself."""
    html: bool = False
    """nginx answers 502 in HTML to everything: the REST service is down."""
    cut_after: int = 0
    """A download's connection breaks after so many bytes of each answer; 0: never."""
    in_flight: int = 0
    """How many requests are being answered now; it is only read."""

    def switch(self, wanted: Mapping[str, object]) -> None:
        """Set faults by name. Raises ValueError: there is no such one."""
        known = {each.name for each in fields(self)} - {"in_flight"}
        for name, value in wanted.items():
            if name not in known or not isinstance(value, bool | int):
                raise ValueError(f"{name}={value!r}; the faults are {sorted(known)}")
        for name, value in wanted.items():
            setattr(self, name, value)


@dataclass(frozen=True, slots=True)
class Peer:
    """A node of the cluster as one manager sees it, itself included."""

    kind: str
    """`manager`, `db` or `broker`."""
    name: str
    address: str
    online: bool = True
    master: bool = False
    """4.x: whether it is the active one; for `db`: whether it leads."""
    failures: tuple[str, ...] = ()


class Office(Protocol):
    """What the manager asks of the machine that it belongs to. It never waits."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...

    @property
    def active(self) -> bool:
        """Whether it answers requests; from 5.0.5 on every manager does."""
        ...

    @property
    def removed(self) -> bool:
        """Whether it was removed from its cluster."""
        ...

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The nodes of its cluster with itself; none, when it is in no cluster."""
        ...


@dataclass(slots=True)
class Alone:
    """The office of a manager that is in no cluster, or in one that is told to it."""

    name: str = "n1"
    active: bool = True
    removed: bool = False
    peers: tuple[Peer, ...] = ()
