"""The configuration: read once, and every mistake named at once."""

import re
import tomllib
from pathlib import Path

import pytest

from agent.cli.grants import SQL
from agent.config import Machine, Settings, example, load, schema
from agent.core.policy import WinnerRule
from agent.core.verdict import Severity, VerdictCode
from agent.errors import ConfigError

NOWHERE = Machine("elsewhere", lambda _: False)

GOOD = """\
cluster = "vnfm-prod"
node = "n2"

[[nodes]]
name = "n1"
agent = "http://10.0.0.1:8009/"
postgres = "host=10.0.0.1 user=splitguard_probe dbname=postgres"
manager = "https://10.0.0.1"

[[nodes]]
name = "n2"
agent = "http://10.0.0.2:8009"
postgres = "postgresql://splitguard_probe@10.0.0.2:5433/postgres"

[[witnesses]]
name = "w1"
agent = "http://10.0.0.9:8009"
"""


@pytest.fixture
def write(tmp_path):
    """Write a configuration file, and return its path."""

    def make(text):
        file = tmp_path / "agent.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return make


def problems_of(file: Path, environ=None, machine=NOWHERE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {}, machine=machine)
    assert caught.value.hint
    return [line.replace(str(file), "FILE") for line in caught.value.problems]


def only_problem_of(file: Path, environ=None, machine=NOWHERE) -> str:
    [problem] = problems_of(file, environ, machine)
    return problem


def test_a_good_file_becomes_settings_and_a_policy(write):
    settings = load(write(GOOD), {}, machine=NOWHERE)
    assert settings.me == "n2"
    assert settings.node_settings("n1").agent == "http://10.0.0.1:8009"
    assert settings.node_settings("w1").postgres is None
    assert settings.capture_dir == Path("/var/lib/splitguard/snapshots")
    assert settings.listen_address == ("127.0.0.1", 8009)
    policy = settings.policy()
    assert policy.cluster == "vnfm-prod"
    assert policy.voters == ("n1", "n2", "w1")
    assert policy.majority == 2
    assert policy.fresh_s == pytest.approx(3.0)
    assert policy.spec("n1").has_manager
    assert not policy.spec("n2").has_manager
    assert policy.spec("n2").upstreams == ("10.0.0.2:5433",)


def test_further_addresses_of_a_server_join_its_own_in_the_policy(write):
    text = GOOD.replace('manager = "https://10.0.0.1"', 'upstreams = "vip:5432"')
    policy = load(write(text), {}, machine=NOWHERE).policy()
    assert policy.spec("n1").upstreams == ("10.0.0.1:5432", "vip:5432")


def test_settings_cannot_be_changed_and_show_no_connection_string(write):
    settings = load(write(GOOD), {}, machine=NOWHERE)
    with pytest.raises(ValueError, match="frozen"):
        settings.cluster = "other"
    assert "splitguard_probe" not in repr(settings)


def test_one_reading_names_every_mistake_with_its_line(write):
    file = write(
        """\
clustr = "x"
listen = "0.0.0.0:8009"
node = "n9"
[probe]
round_s = "2s"
deadlne_s = 1
[[nodes]]
name = "n1"
postgres = "host=10.0.0.1 password=hunter2 passwrd=x"
[[nodes]]
name = "n1"
agnet = "http://10.0.0.2"
[[nodes]]
name = "n3"
agent = "ftp://10.0.0.3"
[capture]
winner_rule = "newest"
dir = "relative/path"
[[channels]]
name = "oncall"
[[routes]]
severity = "critical"
channels = ["oncal"]
""",
    )
    problems = problems_of(file, {"SPLITGUARD_PROBE__ROUNDS": "3"})
    places = [problem.split(": ")[0] for problem in problems]
    assert places == [
        "environment SPLITGUARD_PROBE__ROUNDS",
        "FILE",
        "FILE:1",
        "FILE:2",
        "FILE:3",
        "FILE:5",
        "FILE:6",
        "FILE:9",
        "FILE:11",
        "FILE:12",
        "FILE:15",
        "FILE:17",
        "FILE:18",
        "FILE:19",
        "FILE:23",
    ]
    text = "\n".join(problems)
    assert 'did you mean "SPLITGUARD_PROBE__ROUND_S"?' in text
    assert 'clustr: no such key; did you mean "cluster"?' in text
    assert 'probe.round_s = "2s": not a number' in text
    assert 'nodes[2].agnet: no such key; did you mean "agent"?' in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '"n2"\n\n[[nodes]]',
            '"n4"\n\n[[nodes]]',
            "not in the list of nodes (n1, n2, w1)",
        ),
        ('cluster = "vnfm-prod"', 'cluster = ""', "not a name"),
        ('cluster = "vnfm-prod"', "cluster = 7", "not a text; put it into quotes"),
        ('name = "w1"', 'name = "n1"', "a second node of this name"),
        ('name = "w1"', 'name = "cluster"', "this word is taken"),
        ("http://10.0.0.9:8009", "http://10.0.0.2:8009", "n2 has the same address"),
        ("http://10.0.0.9:8009", "http://me:pw@10.0.0.9", "an address with a password"),
        ("http://10.0.0.9:8009", "10.0.0.9:8009", "not an address"),
        ("http://10.0.0.9:8009", "http://10.0.0.9:99999", "Port out of range"),
        ("host=10.0.0.1 user", "user", "no host: each agent would ask"),
        (
            "host=10.0.0.1 user",
            "host=10.0.0.2 port=5433 user",
            "n1 has the same address",
        ),
        ("host=10.0.0.1 user", "host=a,b user", "several hosts"),
        ("host=10.0.0.1 user", "host = 'open", "not a connection string"),
        ("host=10.0.0.1 user", "host=h port=x user", "the port must be a number"),
        ("@10.0.0.2:5433", "@10.0.0.2:x", "the port must be a number"),
        ('/postgres"', '/postgres?sslmod=off"', 'did you mean "sslmode"?'),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(write, old, new, expected):
    assert old in GOOD
    assert expected in only_problem_of(write(GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("[probe]\nround_s = 0", "out of range; give at least 0.1"),
        ("[probe]\nround_s = 61", "out of range; give at most 60"),
        ("[probe]\nround_s = nan", "not a finite number"),
        ("[probe]\nround_s = true", "not a number"),
        ("[probe]\nround_s = 0.5", "must not be above round_s"),
        ("[probe]\ndeadline_s = 2", "must not be above round_s"),
        ("[guard]\nmax_wait_s = '15min'", "give seconds as a plain number"),
        ('[capture]\nwinner_rule = "luck"', "not one of: highest-timeline"),
        ("[lb]\nfail_closed = 1", "not true or false"),
        ("[capture]\ndir = 5", "not a path"),
        ('[tls]\ncert = "/dev/null"', "key is missing; give both or neither"),
        ('[tls]\nca = "/nonexistent/ca.pem"', "No such file or directory"),
        ('[auth]\ntokens_file = "/"', "Is a directory"),
        ('[local]\ndsn = "hots=/tmp"', 'did you mean "host"?'),
        ('[[channels]]\nname = "a"', "no receiver; give url or url_file"),
        ('[[channels]]\nname = "a"\nurl = "x"', "give http://"),
        (
            '[[channels]]\nname = "a"\nurl = "http://x"\ntype = "fax"',
            "not one of: webhook",
        ),
        ("[[routes]]\nchannels = []", "empty; at least one is needed"),
        ('[[routes]]\nchannels = "a"', "no channel of this name"),
        ("[nods]\n", 'no such key; did you mean "nodes"?'),
        ("[lb]\nfail_closd = true", 'did you mean "fail_closed"?'),
        ("[lb]\nx = true", "known here: fail_closed"),
    ],
)
def test_a_wrong_addition_is_named_with_what_to_do(write, added, expected):
    assert expected in only_problem_of(write(f"{GOOD}\n{added}\n"))


def test_a_receivers_address_is_never_shown(write):
    file = write(f'{GOOD}\n[[channels]]\nname = "a"\nurl = "hooks/T0/secret"\n')
    assert "secret" not in only_problem_of(file)


def test_an_unknown_key_does_not_give_its_value_away(write):
    file = write(f'passwd = "hunter2"\n{GOOD}')
    assert "hunter2" not in only_problem_of(file)


@pytest.mark.parametrize(
    "value", ["host=10.0.0.1 pasword=hunter2", "host=10.0.0.1 password='hunter2"]
)
def test_a_broken_connection_string_does_not_give_its_password_away(write, value):
    text = GOOD.replace("host=10.0.0.1 user=splitguard_probe dbname=postgres", value)
    problem = only_problem_of(write(text))
    assert "postgres" in problem
    assert "hunter2" not in problem


def test_no_nodes_at_all_is_one_problem(write):
    assert "nodes: missing" in only_problem_of(write('cluster = "c"\n'))
    assert "at least one" in only_problem_of(write('cluster = "c"\nnodes = []\n'))


def test_a_listener_beyond_loopback_needs_tls_and_a_token(write, tmp_path):
    text = GOOD.replace("node =", 'listen = "0.0.0.0:8009"\nnode =')
    problem = only_problem_of(write(text))
    assert "cert and key in [tls]" in problem
    assert "peer_token_file" in problem
    for name in ("cert", "key", "token"):
        (tmp_path / name).write_text("x")
    more = (
        f'[tls]\ncert = "{tmp_path}/cert"\nkey = "{tmp_path}/key"\n'
        f'[auth]\npeer_token_file = "{tmp_path}/token"\n'
    )
    assert load(write(text + more), {}, machine=NOWHERE).listen == "0.0.0.0:8009"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8009", "not HOST:PORT"),
        ("*:8009", "0.0.0.0:8009 for every address"),
        ("::1:8009", "brackets"),
        ("127.0.0.1:70000", "from 0 to 65535"),
    ],
)
def test_a_listen_address_has_one_form(write, value, expected):
    text = GOOD.replace("node =", f'listen = "{value}"\nnode =')
    assert expected in only_problem_of(write(text))


def test_loopback_of_both_families_needs_no_token(write):
    for value in ("[::1]:8009", "localhost:0", "127.0.0.9:1"):
        text = GOOD.replace("node =", f'listen = "{value}"\nnode =')
        assert load(write(text), {}, machine=NOWHERE).listen == value


def test_this_machine_is_the_node_of_its_name_with_or_without_domain(write):
    text = GOOD.replace('node = "n2"\n', "")
    for host in ("n1", "n1.example.com"):
        assert load(write(text), {}, machine=Machine(host, lambda _: False)).me == "n1"


def test_this_machine_is_else_the_node_that_has_its_address(write):
    text = GOOD.replace('node = "n2"\n', "")
    machine = Machine("db7", lambda address: address == "10.0.0.2")
    assert load(write(text), {}, machine=machine).me == "n2"


def test_a_machine_that_is_no_node_or_several_must_be_told(write):
    text = GOOD.replace('node = "n2"\n', "")
    nobody = only_problem_of(write(text), machine=NOWHERE)
    assert 'host name "elsewhere") is none of the nodes' in nobody
    assert 'set node = "…" (one of n1, n2, w1)' in nobody
    everybody = Machine("db7", lambda _: True)
    several = only_problem_of(write(text), machine=everybody)
    assert "could be each of n1, n2, w1" in several


def test_loopback_addresses_do_not_tell_which_node_this_is(write):
    text = GOOD.replace('node = "n2"\n', "").replace("10.0.0.", "127.0.0.")
    everybody = Machine("db7", lambda _: True)
    assert "is none of the nodes" in only_problem_of(write(text), machine=everybody)


def test_the_kernel_says_which_addresses_are_ours():
    here = Machine.here()
    assert here.owns("127.0.0.1")
    assert not here.owns("192.0.2.1")
    assert not here.owns("not-an-address")


def test_the_environment_wins_over_the_file(write):
    environ = {
        "SPLITGUARD_NODE": "n1",
        "SPLITGUARD_PROBE__ROUND_S": "2",
        "SPLITGUARD_CAPTURE__ENABLED": "false",
        "SPLITGUARD_CAPTURE__WINNER_RULE": "newest-commit",
        "SPLITGUARD_STATE_DIR": "/srv/sg",
        "SPLITGUARD_CAPTURE__DIR": "",
        "SPLITGUARD_TOKEN": "not a setting",
        "SPLITGUARD_CRASH_AT": "during-copy",
        "PATH": "/bin",
    }
    settings = load(write(GOOD), environ, machine=NOWHERE)
    assert settings.me == "n1"
    assert settings.probe.round_s == 2
    assert not settings.capture.enabled
    assert settings.capture.winner_rule is WinnerRule.NEWEST_COMMIT
    assert settings.capture_dir == Path("/srv/sg/snapshots")


def test_lists_come_from_the_environment_as_toml(write):
    environ = {
        "SPLITGUARD_NODES": '[{name = "a", postgres = "host=db"}]',
        "SPLITGUARD_NODE": "a",
        "SPLITGUARD_WITNESSES": "[]",
    }
    assert load(write(GOOD), environ, machine=NOWHERE).policy().voters == ("a",)


def test_a_wrong_value_from_the_environment_is_named_as_such(write):
    problem = only_problem_of(write(GOOD), {"SPLITGUARD_PROBE__ROUND_S": "2s"})
    assert problem.startswith("environment SPLITGUARD_PROBE__ROUND_S: ")
    problem = only_problem_of(write(GOOD), {"SPLITGUARD_CLUSTR": "x"})
    assert 'did you mean "SPLITGUARD_CLUSTER"?' in problem


def test_the_file_may_be_named_by_the_environment(write):
    file = write(GOOD)
    settings = load(None, {"SPLITGUARD_CONFIG": str(file)}, machine=NOWHERE)
    assert settings.cluster == "vnfm-prod"


def test_a_missing_file_says_where_to_begin(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "absent.toml", {}, machine=NOWHERE)
    assert "No such file" in caught.value.message
    assert "splitguard config example" in caught.value.hint


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {}, machine=NOWHERE)


def test_malformed_toml_names_line_and_column(write):
    assert re.search(
        r"FILE: not TOML: .* \(at line 2, column \d+\)",
        only_problem_of(write('cluster = "c"\nnodes = [\n'.replace("[\n", "[ x"))),
    )


def test_bytes_that_are_no_text_name_their_line(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_bytes(b'cluster = "c"\nnode = "\xff"\n')
    assert only_problem_of(file) == "FILE:2: not UTF-8"


def test_an_endless_file_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_bytes(b"#" * ((1 << 20) + 1))
    assert "longer than 1048576 bytes" in only_problem_of(file)


def test_brackets_without_end_are_no_crash(write):
    assert "not TOML" in only_problem_of(write("a = " + "[" * 50_000))


def test_lines_are_found_behind_texts_that_look_like_keys(write):
    text = (
        'cluster = """\nlb = 1\n"""\n'
        'runbook_url = "http://x/[a]#b"  # [lb]\n'
        "nodes = [\n"
        '  { name = "n1", postgres = "host=a" },\n'
        '  { name = "n2", postgrs = "host=b" },\n'
        "]\n"
        'node = "n1"\n'
        'lb."fail_closd" = true\r\n'
        "'probe'.round_s = -1\n"
    )
    places = [problem.split(": ")[0] for problem in problems_of(write(text))]
    assert places == ["FILE:1", "FILE:5", "FILE:10", "FILE:11"]


def test_routes_take_one_word_or_many(write):
    more = (
        '[[channels]]\nname = "a"\nurl = "https://x/y"\n'
        '[[routes]]\nseverity = "warning"\nverdict = "split-brain"\n'
        'node = ["n1", "cluster"]\nchannels = "a"\n'
    )
    settings = load(write(GOOD + more), {}, machine=NOWHERE)
    [route] = settings.routes
    assert route.severity is Severity.WARNING
    assert route.verdict == (VerdictCode.SPLIT_BRAIN,)
    assert route.node == ("n1", "cluster")
    assert route.channels == ("a",)


def test_a_channel_reads_its_address_and_secret_from_files(write, tmp_path):
    (tmp_path / "url").write_text("https://hooks/x\n")
    (tmp_path / "secret").write_text("whsec_abc\n")
    more = (
        f'[[channels]]\nname = "a"\nurl_file = "{tmp_path}/url"\n'
        f'secret_file = "{tmp_path}/secret"\n[[channels]]\nname = "b"\nurl = "http://y"\n'
    )
    first, second = load(write(GOOD + more), {}, machine=NOWHERE).channels
    assert (first.read_url(), first.read_secret()) == ("https://hooks/x", "whsec_abc")
    assert (second.read_url(), second.read_secret()) == ("http://y", None)
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        first.read_secret()
    (tmp_path / "secret").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        first.read_secret()


def test_files_are_not_looked_for_by_commands_that_make_them(write):
    text = f'{GOOD}\n[auth]\ntokens_file = "/nonexistent/tokens"\n'
    assert load(write(text), {}, machine=NOWHERE, files=False).me == "n2"


def test_the_example_is_a_valid_configuration_with_every_key(write):
    n1 = Machine("n1", lambda _: False)
    settings = load(write(example()), {}, machine=n1)
    assert settings.policy().voters == ("n1", "n2", "n3")
    assert settings == load(write(example()), {}, machine=n1)
    defaults = Settings(cluster=settings.cluster, node="n1", nodes=settings.nodes)
    assert settings == defaults


def test_every_key_of_the_example_may_be_uncommented(write, tmp_path):
    text = re.sub(r"^#(?=[\[\]a-z\"])", "", example(), flags=re.MULTILINE)
    keys = tomllib.loads(text)
    assert set(keys) == set(Settings.model_fields)
    for table, model in (("nodes", "NodeSettings"), ("routes", "RouteSettings")):
        assert set(keys[table][0]) == set(schema()["$defs"][model]["properties"])
    (tmp_path / "a").write_text("x" * 40)
    text = re.sub(r'"/etc/splitguard/[^"]*"', f'"{tmp_path}/a"', text)
    assert load(write(text), {}, machine=NOWHERE).node == "n1"


def test_the_example_fits_a_screen():
    assert max(map(len, example().splitlines())) <= 88


def test_patterns_of_columns_and_a_role_are_checked(write):
    text = f'{GOOD}\n[loss]\nredact = ["*.password", "a.b.c"]\nuser = ""\n'
    problems = problems_of(write(text))
    assert len(problems) == 2
    assert any("not a pattern of columns" in each for each in problems)
    assert any("not a role" in each for each in problems)


def test_the_schema_refuses_unknown_keys_and_explains_each():
    made = schema()
    assert made["additionalProperties"] is False
    tables = [made, *made["$defs"].values()]
    for table in tables:
        for name, key in table.get("properties", {}).items():
            assert "description" in key or "$ref" in key or "allOf" in key, name


def test_the_example_for_operators_is_what_the_command_prints():
    """After a change: `splitguard config example > deploy/agent.example.toml`."""
    deployed = Path(__file__).parents[2] / "deploy" / "agent.example.toml"
    assert deployed.read_text(encoding="utf-8") == example()


def test_the_grants_for_operators_are_what_the_command_prints():
    """After a change: `splitguard grants > deploy/grants.sql`."""
    deployed = Path(__file__).parents[2] / "deploy" / "grants.sql"
    assert deployed.read_text(encoding="utf-8") == SQL
