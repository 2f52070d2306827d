"""The settings written out for people: a commented TOML file, and a JSON schema.

Theory of operation. Both are made of the model's own descriptions and defaults, so
they cannot say anything else than the code does. In the example a key with a default
is commented out at that default; the few that must be given hold a sample. The text
as it stands is a valid configuration for three nodes.
"""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.config.model import NodeSettings, Settings, WitnessSettings
from agent.config.problems import plain
from agent.config.receivers import ChannelSettings, RouteSettings

WIDTH = 88

_HEAD = """\
# Splitguard: /etc/splitguard/agent.toml, the same file on every node.
# Every key is here; behind a # without a space it shows its default, or a sample where
# there is none. Durations are plain numbers of seconds.
# The environment wins over this file: SPLITGUARD_PROBE__ROUND_S=2 sets probe.round_s.
# `splitguard config check` reads this file and names everything that is wrong with it.
"""

_CLUSTER = "vnfm-prod"
_SAMPLES: dict[str, Any] = {
    "cluster": _CLUSTER,
    "node": "n1",
    "page_url": "https://10.0.0.1:8009/",
    "runbook_url": "https://wiki.example.com/split-brain",
    "tls.ca": "/etc/splitguard/tls/ca.pem",
    "tls.cert": "/etc/splitguard/tls/agent.pem",
    "tls.key": "/etc/splitguard/tls/agent.key",
    "auth.peer_token_file": "/etc/splitguard/peer.token",
    "auth.tokens_file": "/etc/splitguard/tokens.jsonl",
    "local.data_dir": "/var/lib/postgresql/15/main",
    "local.bin_dir": "/usr/lib/postgresql/15/bin",
    "local.socket_dir": "/var/run/postgresql",
    "local.dsn": "host=/var/run/postgresql dbname=postgres user=splitguard_local",
    "capture.dir": "/var/lib/splitguard/snapshots",
    "capture.exec": "/usr/local/lib/splitguard/btrfs.sh",
    "capture.schedule": "30 2 * * *",
    "capture.keep_others": 20,
    "offsite.url": "s3://backups/splitguard",
    "offsite.endpoint": "https://s3.example.com",
    "offsite.credentials_file": "/etc/splitguard/s3.credentials",
    "capture.keep_days": 30,
    "resync.follow": "user=replicator passfile=/var/lib/postgresql/.pgpass",
    "capture.keep_gib": 500,
    "vnfm.password_file": "/etc/splitguard/manager.password",
    "vnfm.token_file": "/etc/splitguard/manager.token",
    "vnfm.ca": "/etc/splitguard/tls/manager-ca.pem",
    "vnfm.dir": "/var/lib/splitguard/manager-snapshots",
    "vnfm.schedule": "30 2 * * *",
    "guard.patroni": "/etc/patroni/config.yml",
    "guard.repmgr": "/etc/repmgr.conf",
}
_ARRAYS: dict[str, tuple[type[BaseModel], list[dict[str, Any]], bool]] = {
    # key: (table, samples, whether the sample is live)
    "nodes": (
        NodeSettings,
        [
            {
                "name": f"n{number}",
                "agent": f"https://10.0.0.{number}:8009",
                "postgres": (
                    f"host=10.0.0.{number} dbname=postgres user=splitguard_probe"
                ),
                "manager": f"https://10.0.0.{number}",
            }
            for number in (1, 2, 3)
        ],
        True,
    ),
    "witnesses": (
        WitnessSettings,
        [{"name": "w1", "agent": "https://10.0.0.9:8009"}],
        False,
    ),
    "channels": (
        ChannelSettings,
        [
            {
                "name": "oncall",
                "url_file": "/etc/splitguard/oncall.url",
                "secret_file": "/etc/splitguard/oncall.secret",
            }
        ],
        False,
    ),
    "routes": (
        RouteSettings,
        [
            {
                "severity": "critical",
                "verdict": ["split-brain", "unprotected"],
                "node": ["n1", "cluster"],
                "channels": ["oncall"],
            }
        ],
        False,
    ),
}


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }


def example() -> str:
    """Return a configuration file with every key, explained."""
    return "\n".join(_lines()).rstrip("\n") + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    fields = Settings.model_fields
    scalars = {k: f for k, f in fields.items() if not _is_table(f) and k not in _ARRAYS}
    for key, field in scalars.items():
        yield from _key(key, field, key)
        yield ""
    for key, field in fields.items():
        if key in _ARRAYS:
            yield from _array(key, field)
        elif _is_table(field):
            yield from _table(key, field)


def _is_table(field: FieldInfo) -> bool:
    kind = field.annotation
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _table(key: str, field: FieldInfo) -> Iterator[str]:
    model: Any = field.annotation
    yield from _comment(model.__doc__)
    yield f"[{key}]"
    for name, inner in model.model_fields.items():
        yield from _key(f"{key}.{name}", inner, name)
    yield ""


def _key(path: str, field: FieldInfo, name: str) -> Iterator[str]:
    yield from _comment(field.description or "")
    if field.is_required():
        yield f"{name} = {_toml(_SAMPLES[path])}"
    else:
        value = field.default if field.default is not None else _SAMPLES[path]
        yield from (f"#{line}" for line in _assigned(name, value))


def _assigned(name: str, value: object) -> list[str]:
    """Return a key and its value; a list that is too long for one line on several."""
    line = f"{name} = {_toml(value)}"
    if len(line) < WIDTH or not isinstance(value, list | tuple):
        return [line]
    items = ", ".join(map(_toml, value))
    return [f"{name} = [", *textwrap.wrap(items, WIDTH - 1), "]"]


def _array(key: str, field: FieldInfo) -> Iterator[str]:
    model, samples, live = _ARRAYS[key]
    mark = "" if live else "#"
    yield from _comment(model.__doc__ or field.description or "")
    for number, sample in enumerate(samples):
        yield f"{mark}[[{key}]]"
        for name, inner in model.model_fields.items():
            if number == 0:
                yield from _comment(inner.description or "")
            if name in sample:
                yield f"{mark}{name} = {_toml(sample[name])}"
            elif number == 0 and inner.default is not None:
                yield f"#{name} = {_toml(inner.default)}"
        yield ""


def _comment(text: str | None) -> list[str]:
    words = " ".join((text or "").split())
    return [f"# {line}" for line in textwrap.wrap(words, WIDTH - 2)]


def _toml(value: object) -> str:
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
