"""What the `vnfm` commands are called with: which manager, and as whom.

Theory of operation. A manager is one of the configuration's nodes, asked as [vnfm]
says, or any address with a login of its own: a configured password is never sent to an
address that the configuration does not name. Options count before the environment, and
that before the configuration. A password is never an option: others could read it in
the process list.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

import typer

from agent.cli.call import CONFIG, OUTPUT, Call, with_options
from agent.cli.console import Output
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.config import Settings
    from agent.config.vnfm import VnfmSettings
    from agent.vnfm.login import Login

P = ParamSpec("P")
R = TypeVar("R")
PASSWORD = "SPLITGUARD_VNFM_PASSWORD"  # noqa: S105 - the name of a variable
NO_LOGIN = "no login for the managers is given"
NO_LOGIN_HINT = (
    "set [vnfm] username and password_file, or give --username and --password-file"
    f" (or {PASSWORD} in the environment), or --token-file"
)

_OUTPUT_LONG = Annotated[Output, typer.Option("--output", help="How data is printed.")]
_MANAGER = Annotated[
    str | None,
    typer.Option(
        "--manager",
        metavar="NODE|URL",
        help="Which manager: a node of the configuration, or an address. Default: the"
        " node's that answers as active.",
        show_default=False,
    ),
]
_USERNAME = Annotated[
    str | None,
    typer.Option(
        "--username",
        "-u",
        help="As whom. Default: vnfm.username, for an address admin.",
        show_default=False,
    ),
]
_PASSWORD_FILE = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        help=f"File with the password, one line. Default: ${PASSWORD}, else"
        " vnfm.password_file.",
        readable=False,  # whether it can be read is ours to say
        show_default=False,
    ),
]
_TOKEN_FILE = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with a token in place of user and password.",
        readable=False,
        show_default=False,
    ),
]
_TENANT = Annotated[
    str | None,
    typer.Option(
        "--tenant-name",
        "-t",
        help="The tenant that is asked. Default: vnfm.tenant, else default_tenant.",
        show_default=False,
    ),
]
_CA = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        help="PEM file: who signed the manager's certificate. Default: vnfm.ca.",
        readable=False,
        show_default=False,
    ),
]
_SHARED: dict[str, tuple[Any, object]] = {
    "output": (OUTPUT, Output.TABLE),
    "config": (CONFIG, None),
    "manager": (_MANAGER, None),
    "username": (_USERNAME, None),
    "password_file": (_PASSWORD_FILE, None),
    "token_file": (_TOKEN_FILE, None),
    "tenant_name": (_TENANT, None),
    "ca": (_CA, None),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one manager is."""

    url: str
    node: str | None = None
    """Its name in the configuration; None for an address that was given."""

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return self.node or urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class Profile:
    """Which managers are meant, and how they are asked."""

    places: tuple[Place, ...]
    named: bool
    """Whether one was named: then nobody asks which one is active."""
    login: "Login | None"
    tenant: str
    wait_s: float
    """How long `--wait` waits unless it is told."""
    settings: "Settings | None"
    ca: Path | None


@dataclass(frozen=True)
class ManagerCall(Call):
    """The shared options of one call of a `vnfm` command."""

    manager: str | None = None
    username: str | None = None
    password_file: Path | None = None
    tenant_name: str | None = None
    ca: Path | None = None

    def profile(self, environ: Mapping[str, str] = os.environ) -> Profile:
        """Return which managers are meant. Raises ConfigError."""
        if self.manager is not None and "://" in self.manager:
            return self._elsewhere(self.manager, environ)
        settings = self.settings(files=False)
        places = tuple(
            Place(str(node.manager), node.name)
            for node in settings.nodes
            if node.manager is not None
        )
        if self.manager is not None:
            places = (_named(places, self.manager),)
        if not places:
            raise ConfigError(
                ("no node of the configuration has a manager",),
                "set manager under [[nodes]], or give --manager URL",
            )
        told = self._over(settings.vnfm)
        return Profile(
            places=places,
            named=self.manager is not None,
            login=self._login(told, environ),
            tenant=told.tenant,
            wait_s=told.wait_s,
            settings=settings.model_copy(update={"vnfm": told}),
            ca=None,
        )

    def _elsewhere(self, url: str, environ: Mapping[str, str]) -> Profile:
        from agent.config.vnfm import VnfmSettings

        check_address(url, "--manager")
        told = self._over(VnfmSettings())
        return Profile(
            places=(Place(url.rstrip("/")),),
            named=True,
            login=self._login(told, environ),
            tenant=told.tenant,
            wait_s=told.wait_s,
            settings=None,
            ca=self.ca,
        )

    def _over(self, told: "VnfmSettings") -> "VnfmSettings":
        """Return the settings with what the options say in place of it."""
        options = {
            "username": self.username,
            "tenant": self.tenant_name,
            "ca": self.ca,
        }
        given: dict[str, object] = {k: v for k, v in options.items() if v is not None}
        if self.password_file is not None and self.token_file is not None:
            raise typer.BadParameter(
                "give either --password-file or --token-file",
                param_hint="--password-file",
            )
        if self.password_file is not None or self.token_file is not None:
            # One that was given is not mixed with the one that is configured.
            given |= {
                "password_file": self.password_file,
                "token_file": self.token_file,
            }
        return told.model_copy(update=given)

    def _login(
        self, told: "VnfmSettings", environ: Mapping[str, str]
    ) -> "Login | None":
        """Return as whom to ask; None where nothing says it. Raises ConfigError."""
        from agent.vnfm.connect import login_of
        from agent.vnfm.login import Login

        given = self.password_file is not None or self.token_file is not None
        login, source = None, ""
        if not given and environ.get(PASSWORD):
            login = Login(told.username, environ[PASSWORD], tenant=told.tenant)
            source = f"${PASSWORD}"
        else:
            login = login_of(told)
        if self.token_file is not None:
            source = f"--token-file (now {self.token_file})"
        elif self.password_file is not None:
            source = f"--password-file (now {self.password_file})"
        if login is None:
            return None
        named = "" if self.tenant_name is None else "--tenant-name"
        return replace(login, source=source, tenant_source=named)


def check_address(url: str, option: str) -> None:
    """Raise typer.BadParameter on an address that may not stand in a command."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        usable = usable and parts.port != 0
    except ValueError:
        usable, secret = False, False
    else:
        secret = parts.username is not None or parts.password is not None
    if not usable:
        raise typer.BadParameter(
            "not an address: give http://HOST[:PORT] or https://HOST[:PORT]",
            param_hint=option,
        )
    if secret:
        raise typer.BadParameter(
            "others can read a password in the process list; leave it out of the"
            f" address, and give --password-file or ${PASSWORD}",
            param_hint=option,
        )


def asks_manager(command: Callable[Concatenate[ManagerCall, P], R]) -> Callable[..., R]:
    """Give a command the options by which it finds a manager."""
    return with_options(command, ManagerCall, _SHARED)


def fetches_from_manager(
    command: Callable[Concatenate[ManagerCall, P], R],
) -> Callable[..., R]:
    """Do the same for one whose `-o` names a file, as the managers' client has it."""
    shared = {**_SHARED, "output": (_OUTPUT_LONG, Output.TABLE)}
    return with_options(command, ManagerCall, shared)


def _named(places: tuple[Place, ...], name: str) -> Place:
    for place in places:
        if place.node == name:
            return place
    known = ", ".join(str(place.node) for place in places) or "none"
    raise ConfigError(
        (f"--manager {name}: no node of that name has a manager; there are: {known}",),
        "an address begins with http:// or https://",
    )
