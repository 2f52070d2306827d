"""The lab's own routes beside a stand-in manager: `/lab/v1`.

Theory of operation. They are what managers tell each other, and what the lab does to
one; they are behind the lab's internal token. `POST /lab/v1/faults` switches faults by
their names. The manager's own API is `agent.lab.standin`.
"""

import hmac
from typing import Annotated, Protocol

from fastapi import APIRouter, Body, Depends, FastAPI, Header, HTTPException

from agent.codec import to_plain
from agent.lab.plan import Plan
from agent.lab.standin.traits import Faults
from agent.lab.standing import Standing


class LabOffice(Protocol):
    """What the lab asks of the machine that a manager belongs to."""

    @property
    def standing(self) -> Standing:
        """What the manager says of itself."""
        ...

    async def promote(self, why: str) -> None:
        """Promote the server and become active."""
        ...

    async def prepare(self, histories: dict[str, str]) -> None:
        """Make the server ready to be a source for a node with these histories."""
        ...


def make_manager_app(
    office: LabOffice, plan: Plan, faults: Faults, more: APIRouter
) -> FastAPI:
    """Return an application with the lab's routes, before the manager's are added."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    router = _lab_routes(office, plan, faults)
    router.include_router(more)
    app.include_router(router)
    return app


def _lab_routes(office: LabOffice, plan: Plan, faults: Faults) -> APIRouter:
    known = f"Bearer {plan.secrets.internal}".encode()

    def check(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), known):
            raise HTTPException(401, "the lab's internal token is wanted")

    router = APIRouter(prefix="/lab/v1", dependencies=[Depends(check)])

    @router.get("/standing", response_model=None)
    async def standing() -> object:
        return to_plain(office.standing)

    @router.post("/promote", response_model=None)
    async def promote() -> object:
        await office.promote("an operator said so")
        return to_plain(office.standing)

    @router.post("/prepare", response_model=None)
    async def prepare(
        histories: Annotated[dict[str, str], Body(embed=True)],
    ) -> object:
        await office.prepare(histories)
        return to_plain(office.standing)

    _add_faults(router, faults)
    return router


def _add_faults(router: APIRouter, faults: Faults) -> None:
    @router.get("/faults", response_model=None)
    async def shown() -> object:
        return to_plain(faults)

    @router.post("/faults", response_model=None)
    async def switch(wanted: Annotated[dict[str, bool | int], Body()]) -> object:
        try:
            faults.switch(wanted)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return to_plain(faults)
