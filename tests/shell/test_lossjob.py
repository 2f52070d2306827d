"""The order for a loss report: whom to ask, as whom, and what only the agent knows."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent import codec
from agent.config import Settings
from agent.config.model import AuthSettings, NodeSettings
from agent.core.lineage import Fork
from agent.core.losses import Parting
from agent.core.lsn import Lsn
from agent.core.permit import Permit, PermitState
from agent.core.state import LastSeen, Sent, State
from agent.daemon.lossjob import job_maker
from agent.divergence.job import Job
from agent.divergence.report import Delivered, Released, Waiting
from agent.snapshot.catalogue import Catalogue
from tests.core import given
from tests.shell.test_scheduled import kept

PARTED = Parting(Fork(1, Lsn(0x1000)), "n2", answers=True)
SEEN = LastSeen(
    timeline=1,
    waiting=2,
    since_wall_s=7.0,
    seen_wall_s=9.0,
    sent=(
        Sent("read_past", "shop", "pgoutput", Lsn(0x1001)),
        Sent("read_to", "shop", "pgoutput", Lsn(0x1000)),
    ),
)
PERMIT = Permit(
    id="permit-1",
    node="n1",
    purpose="resync",
    source=None,
    state=PermitState.RELEASED,
    reason="released by mira: the shop must open",
    asked_wall_s=5.0,
    asked_s=0.0,
    granted_s=None,
    system_id=None,
    timeline=None,
    final_lsn=None,
    capture_id=None,
    bytes_done=0,
    bytes_total=0,
    seconds_left=None,
    released_by="mira",
)


def settings(folder: Path) -> Settings:
    token = folder / "peer"
    token.write_text("shared-by-all\n")
    nodes = tuple(
        NodeSettings(
            name=name,
            agent=f"http://127.0.0.1:{port}",
            postgres=f"host={name} port=5433 dbname=postgres user=splitguard_probe"
            " passfile=/x",
        )
        for name, port in (("n1", 8001), ("n2", 8002))
    )
    return Settings(
        cluster="test", node="n1", nodes=nodes, auth=AuthSettings(peer_token_file=token)
    )


def made(folder: Path, state: State, parted: Parting = PARTED) -> Job:
    kept(folder, "n1-1", 1.0)
    manifest = Catalogue(folder).show("n1-1")
    make = job_maker(settings(folder), lambda: state, lambda: 77.0)
    return make(manifest, parted, folder / "n1-1", folder / "scratch")


def test_the_winner_is_read_as_the_role_that_only_reads(tmp_path):
    job = made(tmp_path, State())
    assert job.winner is not None
    assert "user=splitguard_loss" in job.winner.dsn
    assert "passfile=/x" in job.winner.dsn
    assert "port=5433" in job.winner.dsn
    assert job.winner.agent is not None
    assert job.winner.agent.url == "http://127.0.0.1:8002"
    assert (job.made_wall_s, job.fork) == (77.0, PARTED.fork)
    assert codec.from_json(codec.to_json(job), Job) == job


def test_no_secret_shows_where_an_order_is_printed(tmp_path):
    job = made(tmp_path, State())
    assert job.winner is not None
    assert job.winner.agent is not None
    assert job.winner.agent.token == "shared-by-all"
    assert "shared-by-all" not in repr(job)
    assert "passfile" not in repr(job)


def test_a_winner_that_does_not_answer_is_not_asked(tmp_path):
    assert made(tmp_path, State(), replace(PARTED, answers=False)).winner is None


def test_what_only_the_agent_knows_goes_along(tmp_path):
    job = made(tmp_path, given.state(last_seen=SEEN, permits=(PERMIT,)))
    assert job.waiting == (Waiting(2, 7.0, 9.0),)
    assert job.delivered == (Delivered("read_past", "shop", "pgoutput", Lsn(0x1001)),)
    assert job.released == (Released("n1", "mira", "the shop must open", 5.0, Lsn(2)),)


@pytest.mark.parametrize(
    "other",
    [
        {"last_seen": replace(SEEN, timeline=2)},
        {"permits": (replace(PERMIT, state=PermitState.GRANTED),)},
        {"permits": (replace(PERMIT, capture_id="n1-9"),)},
        {"permits": (replace(PERMIT, system_id="72"),)},
    ],
)
def test_what_is_of_another_line_or_resync_does_not(tmp_path, other):
    job = made(tmp_path, given.state(**other))
    assert (job.waiting, job.delivered, job.released) == ((), (), ())
