"""Whatever stands in the file: settings, or one ConfigError of plain lines."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Machine, Settings, load
from agent.config.lines import find_lines
from agent.errors import ConfigError

NOWHERE = Machine("n1", lambda _: False)
KEYS = sorted(
    {
        *Settings.model_fields, "name", "agent", "postgres", "manager", "local",
        "upstreams", "ca", "cert", "key", "tokens_file", "peer_token_file", "data_dir",
        "dsn", "round_s", "deadline_s", "dir", "winner_rule", "max_wait_s", "url",
        "url_file", "severity", "verdict", "nodes", "no-such-key",
    }
)  # fmt: skip
ODD = st.sampled_from(
    [
        "", "n1", "cluster", "a b", "/", "relative", "host=a", "host='", "[::",
        "host=a port=x", "postgres://[", "postgres://u:p%zz@h:x/d?a=b", "http://[::1",
        "http://x:0",
        "critical", "split-brain", "0.0.0.0:1", "127.0.0.1:0", "\x00\x1b\u2028",
        True, 0, -1, 2**70, 0.5, math.inf, math.nan, [], [[]], [0], ["n1"], [{}], {},
        {"name": "n1"}, [{"name": "n1"}, {"name": "n1"}], {"x": [{"y": 1}]},
    ]
)  # fmt: skip
LIKELY = {
    "nodes": ["name", "agent", "postgres", "manager", "local", "upstreams"],
    "witnesses": ["name", "agent"],
    "channels": ["name", "type", "url", "url_file", "secret_file"],
    "routes": ["severity", "verdict", "node", "channels"],
    "tls": ["ca", "cert", "key"],
    "auth": ["peer_token_file", "tokens_file"],
    "local": ["data_dir", "dsn"],
    "probe": ["round_s", "deadline_s"],
}


def table(keys: list[str]):
    """A table that has some of its keys, each with anything."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ODD))


FILES = st.fixed_dictionaries(
    {},
    optional={
        "cluster": ODD,
        "listen": ODD,
        "node": ODD,
        "no-such-key": ODD,
        **{
            key: st.one_of(ODD, st.lists(table(inner), max_size=2), table(inner))
            for key, inner in LIKELY.items()
        },
    },
)


def wrong(file, environ) -> tuple[str, ...]:
    """What is wrong with a configuration; nothing, if it is good."""
    try:
        load(file, environ, machine=NOWHERE)
    except ConfigError as error:
        return error.problems or ("an error without a problem\n",)
    return ()


def toml(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    pairs = ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items())
    return "{" + pairs + "}"


@given(FILES)
@settings(max_examples=400)
def test_no_file_is_more_than_wrong(tmp_path_factory, plain):
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_text("".join(f'"{k}" = {toml(v)}\n' for k, v in plain.items()))
    assert all(problem.isprintable() for problem in wrong(file, {}))


@given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=4))
@settings(max_examples=50)
def test_no_environment_is_more_than_wrong(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "empty.toml"
    file.write_text("")
    environ = {
        f"SPLITGUARD_{key.upper()}": toml(value).replace("\0", "")
        for key, value in values.items()
    }
    assert all(problem.isprintable() for problem in wrong(file, environ))


@given(FILES)
@settings(max_examples=50)
def test_every_key_is_found_on_its_line(plain):
    """One key a line: the third key of the file stands on line 3."""
    text = "".join(f'"{key}" = {toml(value)}\n' for key, value in plain.items())
    lines = find_lines(text)
    assert [lines[(key,)] for key in plain] == list(range(1, len(plain) + 1))
