"""The settings: one TOML file, the same on every node, and the environment over it.

`model` says which keys there are, with default, unit and consequence; `forms` what
one value may look like; `checks` what only several values together can get wrong;
`loading` brings file and environment together and reports every problem at once,
with line, key and what to do; `lines` finds the line; `example` writes the model out
as a TOML file for people. Nothing here opens a connection.
"""

from agent.config.checks import Machine
from agent.config.example import example, schema
from agent.config.loading import DEFAULT_PATH, config_path, load
from agent.config.loss import LossSettings
from agent.config.model import (
    AuthSettings,
    CaptureSettings,
    GuardSettings,
    LbSettings,
    LocalSettings,
    NodeSettings,
    ProbeSettings,
    Settings,
    TlsSettings,
    WitnessSettings,
)
from agent.config.receivers import ChannelSettings, RouteSettings

__all__ = [
    "DEFAULT_PATH",
    "AuthSettings",
    "CaptureSettings",
    "ChannelSettings",
    "GuardSettings",
    "LbSettings",
    "LocalSettings",
    "LossSettings",
    "Machine",
    "NodeSettings",
    "ProbeSettings",
    "RouteSettings",
    "Settings",
    "TlsSettings",
    "WitnessSettings",
    "config_path",
    "example",
    "load",
    "schema",
]
