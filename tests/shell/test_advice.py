"""`config check` advises what is allowed and may still surprise: who is kept."""

import tomllib

import pytest

from agent.config import Settings

WORDS = "those of the 4.x line keep the newest database"


@pytest.mark.parametrize(
    ("manager", "rule", "advised"),
    [
        ('manager = "http://127.0.0.1:81"', "", True),
        ('manager = "http://127.0.0.1:81"', 'winner_rule = "newest-commit"', False),
        ('manager = "http://127.0.0.1:81"', 'winner_rule = "highest-timeline"', False),
        ("", "", False),
    ],
)  # fmt: skip
def test_where_managers_choose_the_rule_by_which_is_to_be_said(
    splitguard, tmp_path, manager, rule, advised
):
    config = tmp_path / "agent.toml"
    config.write_text(
        f'cluster = "c"\nnode = "a"\n[capture]\n{rule}\n'
        f'[[nodes]]\nname = "a"\nagent = "http://127.0.0.1:8009"\n{manager}\n'
    )
    ran = splitguard("config", "check", "--config", config)
    assert ran.code == 0, ran.words
    assert (WORDS in ran.words) is advised
    assert ('winner_rule = "newest-commit"' in ran.words) is advised


def test_nine_machines_are_named_by_what_stands_on_them(splitguard, tmp_path):
    """Managers and databases apart; the brokers are no nodes."""
    nodes = "".join(
        f'[[nodes]]\nname = "{kind}{number}"\n'
        f'agent = "http://127.0.0.1:{port + number}"\n'
        f'{key} = "{value.format(number)}"\n'
        for kind, port, key, value in (
            ("m", 8000, "manager", "https://10.0.0.{}"),
            ("d", 8010, "postgres", "host=10.0.1.{} dbname=postgres user=probe"),
        )
        for number in (1, 2, 3)
    )
    config = tmp_path / "agent.toml"
    config.write_text(
        'cluster = "c"\nnode = "m1"\n[capture]\nwinner_rule = "highest-timeline"\n'
        f"{nodes}"
    )
    ran = splitguard("config", "check", "--config", config)
    assert ran.code == 0, ran.words
    assert "voters" not in ran.words
    policy = Settings.model_validate(tomllib.loads(config.read_text("utf-8"))).policy()
    assert policy.voters == ("d1", "d2", "d3")
    assert policy.servers == 3
    assert [one.name for one in policy.nodes if one.has_manager] == ["m1", "m2", "m3"]
