"""`status` with the agent dead, and snapshots fetched from another machine."""

import json
import tarfile

import pytest

from tests.fix_desk import (
    PEER_TOKEN,
    card,
    healthy,
    listening,
    serve,
    split_brain,
)
from tests.fix_postgres import free_port


@pytest.fixture
def config_with(tmp_path):
    """Write a configuration whose n2 has this agent, and whose socket is dead."""

    def write(agent_url, more=""):
        file = tmp_path / "agent.toml"
        file.write_text(
            f'cluster = "sim"\nnode = "n1"\nsocket = "{tmp_path}/none.sock"\n{more}'
            f'[[nodes]]\nname = "n1"\nagent = "http://127.0.0.1:{free_port()}"\n'
            f'[[nodes]]\nname = "n2"\nagent = "{agent_url}"\n'
            f'[[nodes]]\nname = "n3"\nmanager = "http://127.0.0.1:{free_port()}"\n'
            f'postgres = "host=127.0.0.1 port={free_port()} user=x dbname=x"\n'
        )
        return file

    return write


def test_peers_answer_for_an_agent_that_is_dead(splitguard, config_with):
    served = serve(healthy(), "n2")
    with listening(served) as url:
        ran = splitguard(
            "status",
            "--config",
            config_with(url),
            SPLITGUARD_TOKEN=served.tokens["read"],
        )
    assert ran.code == 0
    assert ran.out.startswith("sim: OK healthy\n")
    assert "none.sock" in ran.words
    assert "this is what n2 says" in ran.words


def test_one_look_is_taken_when_no_agent_answers_and_is_called_so(
    splitguard, config_with
):
    file = config_with(f"http://127.0.0.1:{free_port()}")
    ran = splitguard("status", "--config", file, "-o", "jsonl")
    assert ran.code == 0
    sights = [json.loads(line) for line in ran.out.splitlines()]
    assert [(each["node"], each["channel"]) for each in sights] == [
        ("n1", "agent"),
        ("n2", "agent"),
        ("n3", "postgres"),
        ("n3", "manager"),
    ]
    assert {each["outcome"] for each in sights} == {"unreachable"}
    assert "one look from this machine, no verdict" in ran.words
    table = splitguard("status", "--config", file)
    assert table.out.startswith("NODE")


def test_a_token_from_a_file_serves_the_peers_too(splitguard, config_with, tmp_path):
    served = serve(healthy(), "n2")
    token = tmp_path / "token"
    token.write_text(served.tokens["read"])
    with listening(served) as url:
        ran = splitguard("status", "--config", config_with(url), "--token-file", token)
    assert ran.out.startswith("sim: OK healthy\n")


def test_a_peer_that_refuses_is_named_before_the_look(splitguard, config_with):
    served = serve(healthy(), "n2")
    with listening(served) as url:
        ran = splitguard(
            "status", "--config", config_with(url), "-o", "json",
            SPLITGUARD_TOKEN=served.tokens["data"],
        )  # fmt: skip
    assert "n2: This token lacks the scope read." in ran.words
    assert "no peer gives its status" in ran.words
    found = json.loads(ran.out)
    assert found["source"] == "one look"
    [n2] = [each for each in found["sights"] if each["node"] == "n2"]
    # Without a peer token the question is asked all the same, and refused.
    assert n2["outcome"] == "refused"


def test_without_a_token_nobody_is_asked_in_vain_and_the_look_says_why(
    splitguard, config_with
):
    served = serve(healthy(), "n2")
    with listening(served) as url:
        ran = splitguard("status", "--config", config_with(url))
    assert ran.code == 0
    assert "without a token no peer was asked" in ran.words
    assert "every node was asked once from here" in ran.words
    assert "auth.peer_token_file is not set" in ran.words
    assert "scope" not in ran.words


def test_the_look_uses_the_peer_token_that_is_at_hand(
    splitguard, config_with, tmp_path
):
    secret = tmp_path / "peer.token"
    secret.write_text(PEER_TOKEN)
    served = serve(split_brain(), "n2")
    with listening(served) as url:
        file = config_with(url, f'[auth]\npeer_token_file = "{secret}"\n')
        ran = splitguard("status", "--config", file)
        data = splitguard("status", "--config", file, "-o", "json")
    assert ran.code == 0
    assert "n2 reports: protection " in ran.out
    assert " split-brain, open since 20" in ran.out
    assert "peer_token_file" not in ran.words
    [report] = json.loads(data.out)["reports"]
    assert report["reporter"] == "n2"
    assert {one["verdict"] for one in report["incidents"]} >= {"split-brain"}


def test_a_peer_without_troubles_reports_none(splitguard, config_with, tmp_path):
    secret = tmp_path / "peer.token"
    secret.write_text(PEER_TOKEN)
    with listening(serve(healthy(), "n2")) as url:
        file = config_with(url, f'[auth]\npeer_token_file = "{secret}"\n')
        ran = splitguard("status", "--config", file)
    assert "  no incident is open\n" in ran.out


def test_a_peer_token_that_may_not_be_read_is_named(splitguard, config_with, tmp_path):
    more = f'[auth]\npeer_token_file = "{tmp_path}/none"\n'
    ran = splitguard("status", "--config", config_with("http://127.0.0.1:9", more))
    assert ran.code == 0
    assert f"auth.peer_token_file {tmp_path}/none: No such file" in ran.words


def test_without_configuration_only_the_dead_agent_is_named(splitguard, tmp_path):
    ran = splitguard("status", "--socket", tmp_path / "none.sock")
    assert ran.code == 1
    assert "no agent answers at" in ran.words
    assert "systemctl status splitguard" in ran.words


def test_an_archive_is_fetched_from_an_agent_elsewhere(splitguard, tmp_path):
    served = serve(healthy())
    served.shelf.add(card(), {"manifest.json": b"{}", "data/x": b"y" * 100_000})
    file = tmp_path / "n1.tar"
    weak = tmp_path / "weak.tar"
    words = ("snapshots", "archive", "n1-abc", "-f")
    with listening(served) as url:
        ran = splitguard(
            *words, file, "--url", url, SPLITGUARD_TOKEN=served.tokens["data"]
        )
        refused = splitguard(
            *words, weak, "--url", url, SPLITGUARD_TOKEN=served.tokens["read"]
        )
    assert ran.code == 0, ran.words
    with tarfile.open(file) as archive:
        assert archive.getnames() == ["manifest.json", "data/x"]
    assert f"{file.stat().st_size} bytes written" in ran.words
    assert refused.code == 1
    assert "lacks the scope data" in refused.words
    assert [each.name for each in tmp_path.iterdir()] == ["n1.tar"]
