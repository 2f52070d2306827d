"""The cluster's routes of the 4.x line: `/cluster` and `/cluster/nodes`.

Theory of operation. A cluster begins with `PUT /cluster` at one manager. The active
one takes a name on its list (`PUT /cluster/nodes/NAME`) and gives out what the joiner
has to show in its own `PUT /cluster`, which goes on in the background. `PATCH
/cluster` moves the active role, `DELETE /cluster/nodes/NAME` takes a node off the
list and touches nothing on it. Who is not the active one answers what changes the
cluster with `not_cluster_master`; who was removed, everything with
`removed_from_cluster`. A manager in no cluster has no nodes: 404.
Source: `resources_v3/cluster.py` of 4.5.5 and the client's `cluster.py`; what the
closed parts do is inferred from the client and the documentation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response

from agent.errors import LabError
from agent.lab.standin.answers import Refusal, Shown, bad_parameter, missing, reply
from agent.lab.standin.asked import Asked
from agent.lab.standin.routing import Route
from agent.lab.standin.traits import Office, Peer

STATUSES = {"not_found_error": 404, "conflict_error": 409}
OTHERWISE = 400


class RefusedError(LabError):
    """A manager does not do that. Holds the code of its answer."""

    def __init__(self, message: str, hint: str = "", *, code: str) -> None:
        super().__init__(message, hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the cluster's log."""

    at_us: int
    message: str
    cursor: int


class ClusterOffice(Office, Protocol):
    """What can be done to the cluster of a machine. Called in threads.

    What refuses raises RefusedError; what takes its time goes on by itself.
    """

    @property
    def initialized(self) -> bool:
        """Whether the manager belongs to a cluster, and no join is under way."""
        ...

    @property
    def notes(self) -> tuple[Note, ...]:
        """What it did lately, oldest first."""
        ...

    def start_cluster(self) -> None:
        """Make a cluster of this one manager."""
        ...

    def add_member(self, name: str) -> Mapping[str, object]:
        """Put a node on the list; return what it shows when it joins."""
        ...

    def remove_member(self, name: str) -> None:
        """Take a node off the list."""
        ...

    def join(self, shown: Mapping[str, object]) -> None:
        """Begin to become the standby of a cluster that gave this out."""
        ...

    def set_active(self, name: str) -> None:
        """Begin to move the active role to a node."""
        ...


class ClusterDesk:
    """Answers the cluster's routes. Its methods raise Refusal."""

    def __init__(self, office: ClusterOffice) -> None:
        self._office = office

    def show(self, asked: Asked) -> Response:
        """Answer `GET /cluster`: its state, and its log since a cursor."""
        since = asked.one("since") or "0"
        notes = [
            {"timestamp": note.at_us, "message": note.message, "cursor": note.cursor}
            for note in self._office.notes
            if not since.isdecimal() or note.cursor > int(since)
        ]
        state = {"initialized": self._office.initialized, "error": None, "logs": notes}
        wanted = (asked.one("_include") or "initialized,error,logs").split(",")
        return reply({key: value for key, value in state.items() if key in wanted})

    def put(self, asked: Asked) -> Response:
        """Answer `PUT /cluster`: begin one, or join one where addresses are given."""
        body = asked.json("host_ip", "node_name")
        if body.must("node_name") != self._office.name:
            raise bad_parameter(f"this manager's node is {self._office.name}")
        if not body.get("join_addrs"):
            return self._done(self._office.start_cluster, asked)
        shown = body.get("credentials")
        if not isinstance(shown, dict):
            raise bad_parameter("Missing credentials in json request body")
        return self._done(lambda: self._office.join(shown), asked)

    def patch(self, asked: Asked) -> Response:
        """Answer `PATCH /cluster`: make another node the active one."""
        name = str(asked.json("master").must("master"))
        self._find(name)
        self._only_active()
        return self._done(lambda: self._office.set_active(name), asked)

    def nodes(self) -> Response:
        """Answer `GET /cluster/nodes`."""
        items = [_node(peer) for peer in self._peers()]
        pagination = {"total": len(items), "size": 1000, "offset": 0}
        return reply({"items": items, "metadata": {"pagination": pagination}})

    def node(self, name: str) -> Response:
        """Answer `GET /cluster/nodes/NAME`."""
        return reply(_node(self._find(name)))

    def add(self, name: str) -> Response:
        """Answer `PUT /cluster/nodes/NAME` with what that node joins with."""
        self._peers()
        self._only_active()
        try:
            shown = self._office.add_member(name)
        except RefusedError as error:
            raise _refusal(error) from error
        return reply({"name": name, "credentials": dict(shown), "required": {}})

    def remove(self, name: str) -> Response:
        """Answer `DELETE /cluster/nodes/NAME` with the node that is gone."""
        found = self._find(name)
        self._only_active()
        self._done_or_refused(lambda: self._office.remove_member(name))
        return reply(_node(found))

    def remove_manager(self, name: str) -> Response:
        """Answer `DELETE /managers/HOSTNAME` of 5.0.5 and later with what is gone."""
        found = self._find(name)
        self._done_or_refused(lambda: self._office.remove_member(name))
        return reply({"hostname": name, "private_ip": found.address})

    def _done(self, deed: Callable[[], None], asked: Asked) -> Response:
        self._done_or_refused(deed)
        return self.show(asked)

    def _done_or_refused(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except RefusedError as error:
            raise _refusal(error) from error

    def _peers(self) -> tuple[Peer, ...]:
        if self._office.removed:
            message = "This node was removed from the cluster"
            raise Refusal(400, "removed_from_cluster", message)
        found = self._office.peers
        if not found:
            message = "This manager is not part of a cluster"
            raise Refusal(404, "not_found_error", message)
        return found

    def _find(self, name: str) -> Peer:
        for peer in self._peers():
            if peer.name == name:
                return peer
        raise missing("ClusterNode", name)

    def _only_active(self) -> None:
        if not self._office.active:
            raise not_master()


def not_master() -> Refusal:
    """Return what a manager answers that is not the active one."""
    words = "The client should query the cluster status to learn the master's address"
    message = f"This node is not the cluster's active manager. {words}"
    return Refusal(400, "not_cluster_master", message)


def _node(peer: Peer) -> Shown:
    """Return a node in the shape of the service's lists."""
    checks = ("consul", "services", "database", "heartbeat")
    return {
        "name": peer.name,
        "host_ip": peer.address,
        "public_ip": peer.address,
        "master": peer.master,
        "online": peer.online,
        "initialized": True,
        "remote_database": False,
        "checks": dict.fromkeys(checks, peer.online),
        "options": {},
    }


def _refusal(error: RefusedError) -> Refusal:
    status = STATUSES.get(error.code, OTHERWISE)
    return Refusal(status, error.code, str(error))


def manager_routes(office: ClusterOffice) -> tuple[Route, ...]:
    """Return the routes of a later manager for its cluster, in the premium edition."""
    desk = ClusterDesk(office)
    return (
        Route(
            "DELETE", "managers/<name>", lambda _, __, name: desk.remove_manager(name)
        ),
    )


def cluster_routes(office: ClusterOffice) -> tuple[Route, ...]:
    """Return the routes of a manager of the 4.x line for its cluster."""
    desk = ClusterDesk(office)
    one = "cluster/nodes/<name>"
    return (
        Route("GET", "cluster", lambda _, asked: desk.show(asked)),
        Route("PUT", "cluster", lambda _, asked: desk.put(asked)),
        Route("PATCH", "cluster", lambda _, asked: desk.patch(asked)),
        Route("GET", "cluster/nodes", lambda *_: desk.nodes()),
        Route("GET", one, lambda _, __, name: desk.node(name)),
        Route("PUT", one, lambda _, __, name: desk.add(name)),
        Route("DELETE", one, lambda _, __, name: desk.remove(name)),
    )
