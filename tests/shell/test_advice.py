"""`config check` advises what is allowed and may still surprise: who is kept."""

import pytest

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
