"""A refused password is never sent twice, and no secret shows."""

import os
from pathlib import Path

import pytest

from agent.config.vnfm import VnfmSettings
from agent.errors import ConfigError, ManagerError
from agent.vnfm.connect import kept_login, login_of
from agent.vnfm.login import Login, LoginKept
from tests.fix_vnfm import listed, refused

PLACE = "10.0.0.1:443"
NO = refused("401 UNAUTHORIZED", "unauthorized_error", "User unauthorized: wrong")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("one two\n")
    return path


def settings(**given: object) -> VnfmSettings:
    return VnfmSettings.model_validate({k: str(v) for k, v in given.items()})


def test_a_password_is_the_whole_first_line(file):
    login = login_of(settings(password_file=file, username="eve", tenant="t"))
    assert login == Login("eve", "one two", tenant="t")
    assert "one two" not in repr(login)
    # eve:one two
    headers = {"authorization": "Basic ZXZlOm9uZSB0d28=", "tenant": "t"}
    assert login is not None
    assert login.headers() == headers


def test_a_token_goes_before_a_password(tmp_path, file):
    token = tmp_path / "token"
    token.write_text("ctok-a-b\n")
    login = login_of(settings(password_file=file, token_file=token))
    assert login is not None
    assert login.headers() == {
        "authentication-token": "ctok-a-b",
        "tenant": "default_tenant",
    }
    assert "ctok" not in repr(login)


def test_without_a_file_there_is_no_login():
    assert login_of(settings()) is None


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), (b"", "empty"), (b"\xff", "UTF-8")]
)
def test_a_password_file_that_cannot_be_used_is_named(tmp_path, content, words):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        login_of(settings(password_file=path))
    assert str(path) in str(caught.value)


def test_what_cannot_stand_in_a_header_is_no_token(tmp_path):
    path = tmp_path / "token"
    path.write_text("tök\n")
    with pytest.raises(ConfigError, match="what no token has"):
        login_of(settings(token_file=path))


def test_a_refused_login_is_given_again_once_its_file_has_changed(file):
    kept = kept_login(settings(password_file=file))
    assert kept.for_manager(PLACE) is not None
    assert kept.reason(PLACE) == ""
    kept.refuse(PLACE, "wrong")
    assert kept.reason(PLACE) == "wrong"
    for _ in range(2):
        with pytest.raises(ManagerError, match=r"refused this login before \(wrong\)"):
            kept.for_manager(PLACE)
    assert kept.for_manager("10.0.0.2:443") is not None

    file.write_text("another\n")
    os.utime(file, ns=(1, 1))
    assert kept.reason(PLACE) == ""
    assert kept.for_manager(PLACE) == Login("admin", "another")


def test_a_refusal_counts_for_the_password_that_was_sent(file):
    kept = kept_login(settings(password_file=file))
    kept.for_manager(PLACE)
    file.write_text("mended while it was on its way\n")
    kept.refuse(PLACE, "wrong")
    login = kept.for_manager(PLACE)
    assert login is not None
    assert login.password == "mended while it was on its way"


def test_a_login_from_no_file_is_refused_for_good():
    kept = LoginKept.of(Login("admin", "x"))
    kept.for_manager(PLACE)
    kept.refuse(PLACE, "wrong")
    with pytest.raises(ManagerError, match="not asked"):
        kept.for_manager(PLACE)


async def test_all_clients_of_a_manager_share_its_breaker(manager_says, file):
    kept = kept_login(settings(password_file=file))
    client, asked = await manager_says(NO, listed(), login=kept)
    with pytest.raises(ManagerError, match="User unauthorized"):
        await client.snapshots()
    other, more = await manager_says(listed(), login=kept)
    with pytest.raises(ManagerError, match="not asked"):
        await client.snapshots()
    assert (len(asked), await other.snapshots()) == (1, ())  # another manager
    assert len(more) == 1

    file.write_text("right\n")
    assert await client.snapshots() == ()
    assert len(asked) == 2


async def test_a_password_file_that_has_gone_is_told_and_nothing_is_asked(
    manager_says, file
):
    client, asked = await manager_says(
        listed(), login=kept_login(settings(password_file=file))
    )
    file.unlink()
    with pytest.raises(ManagerError, match=r"not asked: .*No such file") as caught:
        await client.snapshots()
    assert caught.value.code == "login_unreadable"
    assert not asked
    file.write_text("back\n")
    assert await client.snapshots() == ()
