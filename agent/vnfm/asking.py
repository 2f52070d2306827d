"""What a manager is asked about itself and its cluster, in both generations.

Theory of operation. Each method is one call of the REST API. Generations are told apart
by asking, once: 4.x has one active manager and refuses on the others with an error of
its own; from 5.0.5 on all are active. Every refusal and every silence is a ManagerError
that says what is so and what to do.
Source: Cloudify Manager's REST API v3.1, 4.5.5 to 7.1.
"""

from urllib.parse import quote

from agent.errors import ManagerError
from agent.ports import Clock
from agent.transport import Answer, HttpClient
from agent.vnfm import shapes
from agent.vnfm.login import Login, LoginKept
from agent.vnfm.records import (
    AuditEntry,
    ClusterStart,
    ClusterStatus,
    Generation,
    Maintenance,
    Member,
    Status,
    Token,
    Version,
)
from agent.vnfm.refusals import NOT_ACTIVE, code_of
from agent.vnfm.wire import BYPASS, Ask, Query, Wire

PAGE = 500
PAGES_MAX = 40
"""So many pages of one list are read; nobody has 20,000 snapshots."""
NOT_MODIFIED = 304
BAD_REQUEST = 400
NOT_FOUND = 404
SERVER_ERROR = 500


class Asking:
    """One manager at `url` (http or https, host, port), asked about itself.

    Without a login only ok, restoring and, where it wants none, status can be asked.
    A LoginKept that several clients share keeps a refused password from all of them.
    """

    def __init__(
        self,
        url: str,
        login: Login | LoginKept | None,
        http: HttpClient,
        clock: Clock,
        *,
        deadline_s: float = 60.0,
    ) -> None:
        kept = login if isinstance(login, LoginKept) else LoginKept.of(login)
        self._wire = Wire(url, kept, http, deadline_s=deadline_s)
        self._clock = clock
        self._version: Version | None = None
        self._generation: Generation | None = None

    @property
    def place(self) -> str:
        """Return host and port, for messages."""
        return self._wire.place

    @property
    def clock(self) -> Clock:
        """Return the clock that waiting goes by."""
        return self._clock

    async def close(self) -> None:
        """Give up requests that nobody waits for any more."""
        await self._wire.close()

    async def version(self) -> Version:
        """Return edition and version. Raises ManagerError."""
        what = "ask for its version"
        plain = await self._wire.told(Ask(what, "GET", "/version"))
        found = shapes.version(plain)
        if found is None:
            raise self._strange(what)
        self._version, self._generation = found, found.generation
        return found

    async def generation(self) -> Generation:
        """Return how its cluster is built; asked once. Raises ManagerError."""
        if self._generation is None:
            try:
                await self.version()
            except ManagerError as error:
                if error.code not in NOT_ACTIVE:
                    raise
                self._generation = Generation.ACTIVE_STANDBY  # nobody else says that
        assert self._generation is not None  # noqa: S101 - version() sets it
        return self._generation

    async def status(self) -> Status:
        """Return whether it is active, and its services. Raises ManagerError."""
        what = "ask for its status"
        answer = await self._wire.answer(Ask(what, "GET", "/status"))
        code = code_of(answer)
        if answer.status == BAD_REQUEST and code in NOT_ACTIVE:
            return Status(False, code)
        return shapes.status(self._good(answer, what))

    async def ok(self) -> bool | None:
        """Return whether it says that it is well; None where it knows no such question.

        It asks without a login (7.x). Raises ManagerError when it does not answer.
        """
        what = "ask whether it is well"
        answer = await self._wire.answer(Ask(what, "GET", "/ok", login=False))
        if answer.status == NOT_FOUND:
            return None
        if answer.ok or answer.status == SERVER_ERROR:
            return answer.ok
        raise self._wire.refusal(answer, what)

    async def cluster_status(self) -> ClusterStatus:
        """Return the nodes of its cluster, itself alone where there is none.

        Raises ManagerError.
        """
        what = "ask for its cluster"
        if await self.generation() is Generation.ALL_ACTIVE:
            # Never with ?summary: a failed cluster would be a 500 without a word.
            return shapes.cluster_status(
                await self._wire.told(Ask(what, "GET", "/cluster-status"))
            )
        answer = await self._wire.answer(Ask(what, "GET", "/cluster/nodes"))
        if answer.status != NOT_FOUND:
            return shapes.cluster_nodes(self._good(answer, what))
        status = await self.status()
        host = self.place.rpartition(":")[0] or self.place
        state = "leader" if status.active else "replica"
        alone = Member("manager", host, host, state)
        return ClusterStatus("OK" if status.active else "Fail", (alone,))

    async def managers(self) -> tuple[Member, ...]:
        """Return the managers of a cluster of 5.x and later. Raises ManagerError."""
        ask = Ask("list the managers", "GET", "/managers")
        return shapes.managers(await self._wire.told(ask))

    async def cluster_start(self) -> ClusterStart:
        """Return how far starting or joining a 4.x cluster is. Raises ManagerError."""
        query = {"_include": "logs,initialized,error"}
        ask = Ask("ask how far its cluster is", "GET", "/cluster", query)
        return shapes.cluster_start(await self._wire.told(ask))

    async def holds(self) -> dict[str, int]:
        """Return how many blueprints, deployments and plugins it has.

        All tenants are counted, in maintenance mode too. Raises ManagerError.
        """
        found = {}
        for kind in ("blueprints", "deployments", "plugins"):
            query: Query = {"_all_tenants": "true", "_size": 1}
            plain = await self._wire.told(
                Ask(f"count {kind}", "GET", f"/{kind}", query, headers=BYPASS)
            )
            total = shapes.inner(shapes.inner(plain, "metadata"), "pagination").get(
                "total"
            )
            found[kind] = total if isinstance(total, int) else 0
        return found

    async def maintenance(self) -> Maintenance:
        """Return whether it is in maintenance mode. Raises ManagerError."""
        ask = Ask("ask for its maintenance mode", "GET", "/maintenance")
        return shapes.maintenance(await self._wire.told(ask))

    async def set_maintenance(self, active: bool) -> Maintenance:
        """Enter or leave maintenance mode; return how that stands afterwards.

        It enters once nothing runs any more. Raises ManagerError.
        """
        verb = "activate" if active else "deactivate"
        what = f"{verb} its maintenance mode"
        answer = await self._wire.answer(Ask(what, "POST", f"/maintenance/{verb}"))
        if answer.status == NOT_MODIFIED:  # it is so already, and the answer is empty
            return await self.maintenance()
        return shapes.maintenance(self._good(answer, what))

    async def make_token(self, description: str) -> Token:
        """Make a token for this login; its value is shown once. Raises ManagerError."""
        what = "make a token"
        body = {"description": description}
        made = shapes.token(
            await self._wire.told(Ask(what, "POST", "/tokens", body=body, once=True))
        )
        if made is None:
            raise self._strange(what)
        return made

    async def drop_token(self, token_id: str) -> None:
        """Make a token worthless (6.3 and later; others end by themselves).

        Raises ManagerError.
        """
        what = "drop a token"
        if not token_id:
            raise ManagerError(
                f"{self.place}: cannot {what}: those of 4.x and 5.x have no id",
                "it ends by itself, ten hours after it was made",
            )
        path = f"/tokens/{quote(token_id, safe='')}"
        answer = await self._wire.answer(Ask(what, "DELETE", path))
        if not answer.ok:
            raise self._wire.refusal(answer, what)

    async def audit(self, since: str = "") -> tuple[AuditEntry, ...]:
        """Return what was done since then (ISO 8601, UTC), oldest first.

        Raises ManagerError, also before 6.2, which keeps no audit log.
        """
        query: dict[str, str | int] = {"since": since} if since else {}
        try:
            plain = await self._pages("read its audit log", "/audit", query)
        except ManagerError as error:
            if error.status != NOT_FOUND or error.code:
                raise
            raise ManagerError(
                f"{self.place}: keeps no audit log that can be asked for",
                "managers have one from 6.2 on, and answer for it in 7.x",
                status=error.status,
            ) from error
        found = (shapes.audit_entry(one) for one in plain)
        return tuple(sorted(found, key=lambda one: one.at))

    async def remove_member(self, name: str) -> None:
        """Take a manager out of the cluster; it is not torn down by that.

        Raises ManagerError.
        """
        kind = "managers"
        if await self.generation() is Generation.ACTIVE_STANDBY:
            kind = "cluster/nodes"
        what = f"remove {name} from the cluster"
        answer = await self._wire.answer(
            Ask(what, "DELETE", f"/{kind}/{quote(name, safe='')}")
        )
        if not answer.ok:
            raise self._wire.refusal(answer, what)

    async def set_active(self, name: str) -> None:
        """Make another manager of a 4.x cluster the active one. Raises ManagerError."""
        what = f"make {name} the active manager"
        if await self.generation() is Generation.ALL_ACTIVE:
            raise ManagerError(
                f"{self.place}: cannot {what}: from 5.0.5 on every manager is active",
                "what has one leader there is the database: `cfy_manager dbs set-master"
                " -a ADDRESS`",
            )
        ask = Ask(what, "PATCH", "/cluster", body={"master": name})
        answer = await self._wire.answer(ask)
        if not answer.ok:
            raise self._wire.refusal(answer, what)

    async def _pages(self, what: str, path: str, query: Query) -> list[shapes.Plain]:
        """Return all objects of a list, page by page."""
        found: list[shapes.Plain] = []
        for _ in range(PAGES_MAX):
            paged = {**query, "_size": PAGE, "_offset": len(found)}
            plain = await self._wire.told(Ask(what, "GET", path, paged))
            page = shapes.items(plain.get("items"), PAGE)
            found += page
            if len(page) < PAGE:
                break
        return found

    def _good(self, answer: Answer, what: str) -> shapes.Plain:
        if not answer.ok:
            raise self._wire.refusal(answer, what)
        return self._wire.object(answer, what)

    def _strange(self, what: str) -> ManagerError:
        return ManagerError(
            f"{self.place}: cannot {what}: it answers, but not with what was asked for",
            "is that address a manager's, and nothing in between?",
        )
