"""`status` with the agent dead, and snapshots fetched from another machine."""

import json
import tarfile

import pytest

from tests.fix_desk import card, healthy, listening, serve
from tests.fix_postgres import free_port


@pytest.fixture
def config_with(tmp_path):
    """Write a configuration whose n2 has this agent, and whose socket is dead."""

    def write(agent_url):
        file = tmp_path / "agent.toml"
        file.write_text(
            f'cluster = "sim"\nnode = "n1"\nsocket = "{tmp_path}/none.sock"\n'
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


def test_a_peer_that_refuses_is_named_before_the_look(splitguard, config_with):
    served = serve(healthy(), "n2")
    with listening(served) as url:
        ran = splitguard("status", "--config", config_with(url), "-o", "json")
    assert "n2: This needs a token with the scope read." in ran.words
    found = json.loads(ran.out)
    assert found["source"] == "one look"
    [n2] = [each for each in found["sights"] if each["node"] == "n2"]
    # Without a peer token the question is asked all the same, and refused.
    assert n2["outcome"] == "refused"


def test_without_configuration_only_the_dead_agent_is_named(splitguard, tmp_path):
    ran = splitguard("status", "--socket", tmp_path / "none.sock")
    assert ran.code == 1
    assert "no agent answers at" in ran.words
    assert "systemctl status splitguard" in ran.words


def test_an_archive_is_fetched_from_an_agent_elsewhere(splitguard, tmp_path):
    served = serve(healthy())
    served.shelf.add(card(), {"manifest.json": b"{}", "data/x": b"y" * 100_000})
    file = tmp_path / "n1.tar"
    arguments = ("snapshots", "archive", "n1-abc", "-f", file)
    with listening(served) as url:
        ran = splitguard(
            *arguments, "--url", url, SPLITGUARD_TOKEN=served.tokens["data"]
        )
        refused = splitguard(
            *arguments, "--url", url, SPLITGUARD_TOKEN=served.tokens["read"]
        )
    assert ran.code == 0, ran.words
    with tarfile.open(file) as archive:
        assert archive.getnames() == ["manifest.json", "data/x"]
    assert f"{file.stat().st_size} bytes written" in ran.words
    assert refused.code == 1
    assert "lacks the scope data" in refused.words
    assert [each.name for each in tmp_path.iterdir()] == ["n1.tar"]
