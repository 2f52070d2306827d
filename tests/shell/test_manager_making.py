"""What is built to look after a manager, of which configuration."""

from pathlib import Path
from typing import Any

import pytest

from agent.config import Settings
from agent.core.state import State
from agent.daemon.managers_making import managing
from agent.errors import ConfigError
from agent.store.memory import MemoryJournal
from tests.shell.test_runtime import running


def settings(folder: Path, *, manager: bool = True, **vnfm: Any) -> Settings:
    """A node with or without a manager."""
    node = {"name": "n1", "agent": "http://127.0.0.1:8009"}
    if manager:
        node["manager"] = "http://127.0.0.1:1"
    return Settings.model_validate(
        {"cluster": "c", "node": "n1", "nodes": [node], "state_dir": folder,
         "vnfm": vnfm}
    )  # fmt: skip


def login(folder: Path) -> dict[str, Any]:
    path = folder / "password"
    path.write_text("secret\n")
    path.chmod(0o600)
    return {"password_file": path}


async def test_without_a_manager_nothing_is_built_and_without_a_login_nothing_asks(
    tmp_path: Path,
):
    async with running(MemoryJournal(), State()) as (runtime, _):
        assert managing(settings(tmp_path, manager=False), runtime) is None
        made = managing(settings(tmp_path), runtime)
        assert made is not None
        assert made.work is None
        assert made.shelf.list() == ()
        assert made.shelf.ask("now") is None
        made = managing(settings(tmp_path, **login(tmp_path)), runtime)
        assert made is not None
        assert made.work is not None
        assert made.shelf.refusal() == ("", "")
        await made.close()


async def test_so_many_may_wait_to_be_made_and_each_has_an_id_of_its_own(
    tmp_path: Path,
):
    async with running(MemoryJournal(), State()) as (runtime, _):
        made = managing(settings(tmp_path, **login(tmp_path)), runtime)
        assert made is not None
        asked = [made.shelf.ask("now") for _ in range(6)]
    assert None in asked
    given = [one for one in asked if one is not None]
    assert len(given) == len(set(given)) > 1
    assert asked[len(given) :] == [None] * (6 - len(given))


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ("every night", "every night"),
        ("61 2 * * *", "61 2"),
    ],
)
async def test_a_schedule_that_is_none_is_a_problem_at_the_start(
    tmp_path: Path, schedule: str, named: str
):
    async with running(MemoryJournal(), State()) as (runtime, _):
        with pytest.raises(ConfigError, match=r"vnfm\.schedule") as error:
            managing(settings(tmp_path, schedule=schedule, **login(tmp_path)), runtime)
    assert named in error.value.message
    assert "30 2 * * *" in error.value.hint


async def test_a_schedule_without_a_login_is_a_problem_at_the_start(tmp_path: Path):
    async with running(MemoryJournal(), State()) as (runtime, _):
        with pytest.raises(ConfigError, match="no login to do it with"):
            managing(settings(tmp_path, schedule="30 2 * * *"), runtime)
