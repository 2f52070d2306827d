"""`splitguard vnfm` before a manager is asked, and who is asked in which order."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from agent.cli.vnfm_call import PASSWORD, ManagerCall, Place
from agent.cli.vnfm_dashes import plain
from agent.cli.vnfm_door import NOT_ASKED, ask_all
from agent.cli.vnfm_keep import way_on
from agent.cli.vnfm_look import Look, judge
from agent.cli.vnfm_look import plain as shown
from agent.cli.vnfm_look import table as look_table
from agent.cli.vnfm_progress import transfer, waiting
from agent.cli.vnfm_words import (
    fails,
    not_passed_on,
    refuses_cluster,
    restored,
    restoring,
    tenant_of_restore,
)
from agent.errors import ConfigError, ManagerError
from agent.transport import Answer
from agent.vnfm.options import CreateOptions
from agent.vnfm.records import Status, Version
from agent.vnfm.refusals import refusal

OLD, NEW = Version("4.5.5"), Version("7.0.5")
PLACES = tuple(Place(f"http://10.0.0.{n}", f"n{n}") for n in (1, 2, 3))
URL = "http://127.0.0.1:1"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of two managers, with a password."""
    (tmp_path / "password").write_text("of the file\n")
    path = tmp_path / "agent.toml"
    nodes = "".join(
        f'[[nodes]]\nname = "n{n}"\nmanager = "http://127.0.0.1:{n}"\n' for n in (1, 2)
    )
    path.write_text(
        f'cluster = "c"\nnode = "n1"\n{nodes}'
        f'[vnfm]\npassword_file = "{tmp_path}/password"\ntenant = "blue"\n'
    )
    return path


# --- the command line -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("—include-metrics", "--include-metrics"),
        ("\u2013include-metrics", "--include-metrics"),
        ("——force", "--force"),
        ("-\u2013force", "--force"),
        ("\u2212\u2212force", "--force"),
        ("\u2013f", "-f"),
        ("—tenant-name=a", "--tenant-name=a"),
        ("daily—1", "daily—1"),
        ("--force", "--force"),
        ("—", "—"),
    ],
)
def test_a_typographic_dash_is_two_hyphens_or_one_before_a_letter(given, meant):
    assert plain(given) == meant


def test_a_line_copied_from_the_guide_is_answered_with_the_one_that_works(splitguard):
    ran = splitguard(
        "vnfm", "snapshots", "create", "—include-metrics", "—include-credentials", "a"
    )
    assert ran.code == 2
    assert (
        "splitguard vnfm snapshots create --include-metrics --include-credentials a\n"
        in ran.words
    )


def test_what_stands_after_two_hyphens_is_no_option(splitguard):
    ran = splitguard("vnfm", "snapshots", "create", "--manager", URL, "--", "—a")
    assert ran.code == 2
    assert "is no id" in ran.words


@pytest.mark.parametrize(
    "words",
    [
        ("create", "7up"),
        ("create", "a b"),
        ("create", "x" * 257),
        ("download", "../etc"),
        ("restore", "a/b"),
        ("upload", "-s", "1", __file__),
        ("upload", "http://127.0.0.1:1/1.zip"),
    ],
)
def test_an_id_that_no_manager_takes_is_refused_before_one_is_asked(splitguard, words):
    ran = splitguard("vnfm", "snapshots", *words, "--manager", URL)
    assert (ran.code, ran.out) == (2, "")
    assert "is no id" in ran.words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://admin:secret@10.0.0.1", "process list"),
        ("ftp://10.0.0.1", "not an address"),
        ("http://10.0.0.1:99999", "not an address"),
        ("https://", "not an address"),
    ],
)
def test_an_address_is_checked_and_holds_no_password(splitguard, url, words):
    ran = splitguard("vnfm", "snapshots", "list", "--manager", url)
    assert ran.code == 2
    assert words in ran.words
    assert "secret" not in ran.words


def test_there_is_no_option_for_a_password(splitguard):
    ran = splitguard("vnfm", "snapshots", "list", "--manager", URL, "--password", "x")
    assert ran.code == 2
    assert "--password" in ran.words


def test_without_a_login_it_says_how_to_give_one(splitguard):
    ran = splitguard("vnfm", "snapshots", "list", "--manager", URL)
    assert ran.code == 1
    assert "no login for the managers is given" in ran.words
    assert "password_file" in ran.words
    assert PASSWORD in ran.words


def test_a_format_where_a_file_is_meant_is_asked_about(splitguard):
    ran = splitguard(
        "vnfm", "snapshots", "download", "a", "-o", "json", "--manager", URL
    )
    assert ran.code == 2
    assert "--output json" in ran.words


def test_a_file_that_is_there_is_never_written_over(splitguard, tmp_path):
    (tmp_path / "a.zip").write_text("mine")
    ran = splitguard(
        "vnfm", "snapshots", "download", "a", "-o", tmp_path, "--manager", URL,
        SPLITGUARD_VNFM_PASSWORD="x",
    )  # fmt: skip
    assert ran.code == 1
    assert f"{tmp_path / 'a.zip'} is there already" in ran.words
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_a_file_or_folder_that_is_not_there_is_said_before_anybody_is_asked(
    splitguard, tmp_path
):
    for words, said in (
        (("upload", "/nowhere/a.zip"), "there is no file /nowhere/a.zip"),
        (("upload", tmp_path), "is no file"),
        (("download", "a", "-o", "/nowhere/a.zip"), "there is no folder /nowhere"),
    ):
        ran = splitguard("vnfm", "snapshots", *words, "--manager", URL)
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.words


def test_no_reboot_belongs_to_certificates(splitguard):
    ran = splitguard(
        "vnfm", "snapshots", "restore", "a", "--no-reboot", "--manager", URL
    )
    assert ran.code == 2
    assert "--restore-certificates" in ran.words


def test_how_long_to_wait_belongs_to_waiting(splitguard):
    for command in ("create", "restore"):
        ran = splitguard(
            "vnfm", "snapshots", command, "a", "--wait-s", "9", "--manager", URL
        )
        assert ran.code == 2
        assert "it goes with --wait" in ran.words


def test_a_manager_that_is_not_there_is_said_in_one_line_with_what_to_do(splitguard):
    ran = splitguard(
        "vnfm", "snapshots", "list", "--manager", URL, SPLITGUARD_VNFM_PASSWORD="x"
    )
    assert (ran.code, ran.out) == (1, "")
    assert "127.0.0.1:1: cannot list the snapshots" in ran.words


# --- who is asked, and as whom --------------------------------------------------------


def test_the_configuration_tells_managers_login_and_tenant(config):
    profile = ManagerCall(config=config).profile({})
    assert [place.node for place in profile.places] == ["n1", "n2"]
    assert not profile.named
    assert profile.login is not None
    assert (profile.login.username, profile.login.tenant) == ("admin", "blue")
    assert profile.login.password == "of the file"


def test_options_count_before_the_environment_and_that_before_the_file(
    config, tmp_path
):
    (tmp_path / "mine").write_text("of the option\n")
    call = ManagerCall(config=config, username="ann", tenant_name="red", manager="n2")
    login = call.profile({PASSWORD: "of the variable"}).login
    assert login is not None
    assert (login.username, login.password) == ("ann", "of the variable")
    assert login.tenant == "red"
    other = ManagerCall(config=config, password_file=tmp_path / "mine")
    login = other.profile({PASSWORD: "of the variable"}).login
    assert login is not None
    assert login.password == "of the option"
    assert "of the" not in repr(login)


@pytest.mark.parametrize(
    ("option", "variable", "words"),
    [
        ({"password_file": "bad"}, "", "give the right one by --password-file (now "),
        ({"token_file": "bad"}, "", "make a new one and give it by --token-file (now "),
        ({}, "x", f"put the right one into ${PASSWORD}"),
        ({}, "", "put the right one into [vnfm] password_file"),
    ],
)
def test_a_refused_login_is_to_be_mended_where_it_came_from(
    config, tmp_path, option, variable, words
):
    (tmp_path / "bad").write_text("bad\n")
    given = {name: tmp_path / file for name, file in option.items()}
    profile = ManagerCall(config=config, **given).profile({PASSWORD: variable})
    hint = refusal(Answer(401, {}, b"{}"), "n1", "ask", profile.login).hint
    assert words in hint
    assert ("[vnfm]" in hint) is not (option or variable)


def test_a_tenant_that_was_given_is_to_be_given_anew(config):
    told = {"error_code": "forbidden_error", "message": "invalid tenant name: nope"}
    answer = Answer(403, {}, json.dumps(told).encode())
    for option, words in (
        ("nope", "give one that `cfy tenants list` names by --tenant-name, now 'nope'"),
        (None, "set [vnfm] tenant, now 'blue', to one that `cfy tenants list` names"),
    ):
        profile = ManagerCall(config=config, tenant_name=option).profile({})
        assert refusal(answer, "n1", "ask", profile.login).hint == words


def test_a_configured_password_is_never_sent_to_another_address(config):
    call = ManagerCall(config=config, manager="http://127.0.0.1:9")
    profile = call.profile({})
    assert profile.login is None
    assert profile.places == (Place("http://127.0.0.1:9"),)


def test_an_unknown_manager_is_answered_with_the_known_ones(config):
    with pytest.raises(ConfigError, match="there are: n1, n2"):
        ManagerCall(config=config, manager="n7").profile({})


def asked(ask, **options):
    """What came of asking the three managers."""
    return asyncio.run(ask_all(PLACES, ask, **options))


def test_a_refused_login_is_not_tried_on_the_next_manager():
    tried = []

    async def ask(place):
        tried.append(place.node)
        raise ManagerError("wrong", code="unauthorized_error")

    answers = asked(ask)
    assert tried == ["n1"]
    assert answers[0].refused
    assert "not asked" in answers[1].error.message


def test_a_login_that_was_taken_is_used_on_all_the_others_at_once():
    both: list[asyncio.Barrier] = []

    async def ask(place):
        if place.node != "n1":
            # Neither could go on if the other one were not asked at the same time.
            both[:] = both or [asyncio.Barrier(2)]
            await both[0].wait()
        return place.node

    assert [one.answer for one in asked(ask)] == ["n1", "n2", "n3"]


def test_a_manager_that_does_not_answer_is_passed_over_for_the_next():
    async def ask(place):
        if place.node == "n1":
            raise ManagerError("no route")
        return place.node

    answers = asked(ask)
    assert [one.answer for one in answers] == [None, "n2", "n3"]
    assert answers[0].error.message == "no route"


def test_who_answers_much_later_than_an_active_one_is_left_out():
    async def ask(place):
        if place.node == "n3":
            await asyncio.Event().wait()
        return place.node

    answers = asked(ask, late_s=0.01)
    assert [one.answer for one in answers] == ["n1", "n2", None]
    assert "no answer" in answers[2].error.message


def look(number, *, active=True, version=OLD, problem=""):
    """What one manager said."""
    found = Look(PLACES[number - 1])
    if problem:
        found.problems.append(problem)
    else:
        found.status, found.version = Status(active, "running"), version
    return found


def test_two_active_managers_are_wrong_in_4_and_right_in_7():
    split = judge([look(1), look(2), look(3, active=False)])
    assert split.wrong is not None
    assert split.active == ["n1", "n2"]
    assert "splitguard explain" in split.hint
    assert judge([look(1, version=NEW), look(2, version=NEW)]).wrong is None
    assert judge([look(1), look(2, active=False)]).wrong is None
    nobody = judge([look(1, problem="no route"), look(2, active=False)])
    assert nobody.wrong == "no manager answers as active: no route"


def test_a_manager_has_the_same_keys_whether_it_answered_or_not():
    there, gone = shown(look(1)), shown(look(2, problem="no route"))
    assert there.keys() == gone.keys()
    assert (gone["answers"], gone["active"], gone["version"]) == (False, None, None)
    assert json.loads(json.dumps(there))["generation"] == "4.x"


def test_who_refused_the_login_answered_and_the_others_were_not_asked():
    first = Look(
        PLACES[0], problems=["cannot ask: HTTP 401"], code="unauthorized_error"
    )
    first.hint = "put the right one there"
    rest = [Look(place, problems=["not asked"], code=NOT_ASKED) for place in PLACES[1:]]
    looks = [first, *rest]
    assert [shown(one)["answers"] for one in looks] == [True, None, None]
    judged = judge(looks)
    assert judged.wrong == "nobody told who is active: n1 refused the login"
    assert judged.hint == first.hint
    out = io.StringIO()
    Console(file=out, width=200).print(look_table(looks, judged))
    lines = out.getvalue().splitlines()
    assert "refused the login" in lines[1]
    assert "not asked" in lines[2]
    assert "no manager answers" not in out.getvalue()


# --- words ----------------------------------------------------------------------------


def test_an_option_that_the_version_does_not_know_is_explained():
    wish = CreateOptions(include_metrics=True, queue=True)
    [metrics] = not_passed_on(wish, NEW)
    assert metrics.startswith("--include-metrics is not passed on")
    assert "7.0.5" in metrics
    assert not_passed_on(wish, OLD) == ()
    assert len(not_passed_on(wish, Version("4.4.1"))) == 1
    assert "all tenants" in tenant_of_restore("blue")


def test_a_restore_says_what_becomes_of_what_is_there():
    held = {"blueprints": 2, "secrets": 0}
    [empty] = restoring(OLD, "n1", {}, force=False)
    assert "is empty" in empty
    [forced] = restoring(OLD, "n1", held, force=True)
    assert "replaced and lost" in forced
    assert "2 blueprints" in forced
    [merged] = restoring(NEW, "n1", held, force=False)
    assert "merged into" in merged
    assert fails(OLD, held, force=False)
    assert not fails(OLD, held, force=True)
    assert not fails(NEW, held, force=False)
    assert not fails(OLD, {"blueprints": 0}, force=False)
    assert refuses_cluster(OLD, 3)
    assert not refuses_cluster(OLD, 1)
    assert not refuses_cluster(NEW, 3)


def test_only_of_the_community_edition_of_7_x_it_is_told_what_it_loses():
    lossy, held = Version("7.0.5", "community"), {"blueprints": 2}
    [_, warned] = restoring(lossy, "n1", held, force=True)
    assert "nothing is restored" in warned
    [told] = restored(lossy, "n1", held, held)
    assert "holds what it held before (2 blueprints)" in told
    assert restored(lossy, "n1", held, {"blueprints": 3}) == ()
    for version in (OLD, Version("4.5.5", "community"), Version("7.0.5", "premium")):
        assert restored(version, "n1", held, held) == ()


def test_where_nobody_watches_progress_is_a_few_plain_lines(capsys):
    with transfer("a.zip") as told:
        for done in range(0, 1001, 10):
            told(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert 9 <= len(lines) <= 12
    assert lines[-1] == "splitguard: a.zip: 1000 B of 1000 B"
    with waiting("snapshot a") as stage:
        for state in ("creating", "creating", "created\x1b[2J"):
            stage(state)
    assert capsys.readouterr().err.splitlines() == [
        "splitguard: snapshot a: creating",
        "splitguard: snapshot a: created [2J",
    ]


def test_a_keep_that_failed_by_what_hangs_says_how_to_end_that():
    hangs = "n1: busy; if it hangs, end it: splitguard vnfm executions kill 4f1c"
    assert "end it: splitguard vnfm executions kill 4f1c" in way_on(hangs)
    assert way_on("no room") == "`splitguard vnfm status` says how the manager is"
