"""The tokens file: what it holds, what it refuses, and how a token is found."""

import json
from pathlib import Path

import pytest

from agent.api.tokens import Scope, TokenBook, create, digest
from agent.errors import ConfigError


def test_a_new_token_says_its_scope_and_its_line_does_not_hold_it():
    token, line = create("ada", Scope.READ)
    assert token.startswith("sg_read_")
    assert len(token) >= 40
    assert token not in line
    assert json.loads(line) == {
        "name": "ada", "scope": "read", "sha256": digest(token),
    }  # fmt: skip
    book = TokenBook.parse(line, None)
    found = book.find(token)
    assert found is not None
    assert (found.name, found.scopes) == ("ada", frozenset((Scope.READ,)))
    assert book.find(token + "x") is None
    assert book.find("") is None


def test_two_tokens_are_never_alike():
    assert len({create("ada", Scope.READ)[0] for _ in range(50)}) == 50


def test_one_token_may_have_several_lines_and_then_has_their_scopes():
    token, line = create("ada", Scope.READ)
    again = json.dumps({**json.loads(line), "scope": "operate"})
    found = TokenBook.parse(f"{line}\n{again}", None).find(token)
    assert found is not None
    assert found.scopes == {Scope.READ, Scope.OPERATE}


def test_both_files_are_read(tmp_path: Path):
    token, line = create("ada", Scope.DATA)
    tokens, peer = tmp_path / "tokens", tmp_path / "peer"
    tokens.write_text(f"# who may ask\n\n{line}\n")
    peer.write_text("a-long-secret-of-the-peers\n")
    book = TokenBook.load(tokens, peer)
    assert book.for_people
    assert book.find(token)
    shared = book.find("a-long-secret-of-the-peers")
    assert shared is not None
    assert shared.scopes == {Scope.PEER}
    assert not TokenBook.load(None, peer).for_people


def test_every_bad_line_is_named_and_none_is_quoted(tmp_path: Path):
    good = create("ada", Scope.READ)[1]
    hashed = "a" * 64
    lines = [
        "not json secret",
        '["secret"]',
        '{"name": "x", "scope": "read"}',
        f'{{"name": "x", "scope": "root", "sha256": "{hashed}"}}',
        f'{{"name": "x", "scope": ["read"], "sha256": "{hashed}"}}',
        '{"name": "x", "scope": "read", "sha256": "secret"}',
        f'{{"name": "", "scope": "read", "sha256": "{hashed}"}}',
        f'{{"name": 5, "scope": "read", "sha256": "{hashed}"}}',
        f'{{"name": "a\\nb", "scope": "read", "sha256": "{hashed}"}}',
        good,
    ]
    path = tmp_path / "tokens"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        TokenBook.load(path, None)
    assert len(caught.value.problems) == 9
    assert all(f"line {n}:" in p for n, p in enumerate(caught.value.problems, 1))
    assert "secret" not in str(caught.value)
    assert "splitguard token create" in caught.value.hint


def test_files_that_cannot_be_used_are_all_named_at_once(tmp_path: Path):
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ConfigError) as caught:
        TokenBook.load(tmp_path / "absent", tmp_path / "short")
    first, second = caught.value.problems
    assert first.startswith("auth.tokens_file: cannot read")
    assert second.startswith("auth.peer_token_file:")
    assert "abc" not in second
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        TokenBook.load(tmp_path / "binary", None)


@pytest.mark.parametrize("name", ["", "a" * 101, "tab\there"])
def test_a_token_needs_a_name_that_can_be_shown(name: str):
    with pytest.raises(ConfigError, match="name"):
        create(name, Scope.READ)
