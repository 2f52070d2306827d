"""Every command line of the managers' guide does what the guide says, on 4.x and 7.x.

`guide_lines.toml` holds the guide's lines as they are printed, and one table of what
has to be put right in them. Each line is run as it stands after that: those of the
command line with the installed `splitguard` and an agent's configuration, the others by
a shell with plain curl. What comes of it is looked up in the stand-in manager.
"""

import io
import os
import re
import subprocess
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import SPLITGUARD
from tests.fix_manager import Manager, StartManager
from tests.fix_postgres import eventually

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

GUIDE = tomllib.loads(Path(__file__).with_name("guide_lines.toml").read_text("utf-8"))
TEXT: dict[int, str] = dict(
    enumerate(GUIDE["text"].splitlines(), start=GUIDE["first_line"])
)
NAME = "daily-1"
BEGINS = re.compile(r"\s*(?:\$ )?(vnfm|cfy|curl|sudo|splitguard)\b")
GOES_ON = re.compile(r"\s*-{1,2}[A-Za-z]")
LIMIT_S = 60


@dataclass(frozen=True)
class Line:
    """One command of the guide."""

    lines: tuple[int, ...]
    kind: str
    does: str

    @property
    def printed(self) -> str:
        """The whole command in one line, as the guide has it."""
        return " ".join(TEXT[number].strip() for number in self.lines)

    def works(self, manager: Manager, without: str = "") -> str:
        """The command as it works, without one of the corrections if that is named."""
        command = self.printed
        for each in GUIDE["corrections"]:
            if self.lines[0] in each["lines"] and each["name"] != without:
                works = each["works"].replace("\\", "\\\\")
                command = re.sub(each["printed"], works, command)
        told = {
            "<manager-ip>": manager.url.removeprefix("http://"),
            "<manager-password>": manager.password,
        }
        for placeholder, value in GUIDE["placeholders"].items():
            command = command.replace(placeholder, told.get(placeholder, value))
        return command

    @property
    def id(self) -> str:
        """What the test is called."""
        return f"line {self.lines[0]}: {self.kind} {self.does}"


COMMANDS = [
    Line(tuple(each["lines"]), each["kind"], each["does"]) for each in GUIDE["commands"]
]
BROKEN = [
    pytest.param(line, each["name"], each["without"], id=f"{line.id}, {each['name']}")
    for line in COMMANDS
    for each in GUIDE["corrections"]
    if line.lines[0] in each["lines"]
]


@dataclass
class Desk:
    """A shell of an operator's, in a folder of its own."""

    home: Path
    manager: Manager

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a line as a shell does."""
        return subprocess.run(
            ["/bin/bash", "-c", command],
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
            cwd=self.home, stdin=subprocess.DEVNULL,
            env={
                "PATH": f"{SPLITGUARD.parent}:{os.environ['PATH']}",
                "HOME": str(self.home),
                "SPLITGUARD_CONFIG": str(self.home / "agent.toml"),
            },
        )  # fmt: skip

    def get(self, path: str) -> Any:
        """What the manager itself says, as JSON."""
        with self.manager.http() as client:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def archive(self) -> bytes:
        """The snapshot's archive as the manager has it."""
        with self.manager.http() as client:
            answer = client.get(f"/snapshots/{NAME}/archive")
        assert answer.status_code == 200, answer.text
        return answer.content

    def take_away(self) -> None:
        """Keep the archive as a file, and remove the snapshot from the manager."""
        (self.home / f"{NAME}.zip").write_bytes(self.archive())
        with self.manager.http() as client:
            assert client.delete(f"/snapshots/{NAME}").status_code == 200

    def prepare(self, does: str) -> None:
        """Bring about what the guide takes for granted before this line."""
        if does != "create":
            self.manager.put("blueprints", "kept")
            self.manager.make(NAME)
        if does == "upload":
            self.take_away()
        if does == "restore":
            self.manager.query("DELETE FROM blueprints")

    def happened(self, does: str) -> None:
        """Assert what the line is there for."""
        {
            "create": self._created,
            "download": self._downloaded,
            "upload": self._uploaded,
            "restore": self._restored,
        }[does]()

    def has_created_with_what_the_version_knows(self) -> None:
        """Assert what line 16 asked for and the manager was told."""
        [[told]] = self.manager.query("SELECT parameters FROM executions")
        assert told["include_credentials"] is True
        metrics = {"4.5.5": True, "7.0.5": None}[self.manager.traits.version]
        assert told.get("include_metrics") is metrics

    def _created(self) -> None:
        eventually("it is created", lambda: self._status() == "created", LIMIT_S)
        members = zipfile.ZipFile(io.BytesIO(self.archive())).namelist()
        assert "metadata.json" in members

    def _downloaded(self) -> None:
        assert (self.home / f"{NAME}.zip").read_bytes() == self.archive()

    def _uploaded(self) -> None:
        assert self._status() == "uploaded"
        assert self.archive() == (self.home / f"{NAME}.zip").read_bytes()

    def _restored(self) -> None:
        def there() -> bool:
            return self.manager.names("blueprints") == ["kept"]

        eventually("what the snapshot holds is back", there, LIMIT_S)

    def _status(self) -> str:
        return str(self.get(f"/snapshots/{NAME}")["status"])


@pytest.fixture(scope="module", params=["4.5.5", "7.0.5"])
def shared(request: pytest.FixtureRequest, started_managers: StartManager) -> Manager:
    """A manager of each generation, for all lines."""
    return started_managers(request.param)


@pytest.fixture
def desk(tmp_path: Path, shared: Manager) -> Desk:
    """An operator with an agent's configuration, and a manager that holds nothing."""

    def works() -> list[Any]:
        return shared.query("SELECT id FROM executions WHERE ended_at IS NULL")

    eventually("nothing is executed any more", lambda: not works(), LIMIT_S)
    for table in ("executions", "snapshots", "blueprints"):
        shared.query(f"DELETE FROM {table}")
    (tmp_path / "password").write_text(shared.password)
    (tmp_path / "agent.toml").write_text(
        f'cluster = "c"\nnode = "n1"\n'
        f'[[nodes]]\nname = "n1"\nmanager = "{shared.url}"\n'
        f'[vnfm]\npassword_file = "{tmp_path / "password"}"\n'
    )
    return Desk(tmp_path, shared)


def test_the_fixture_has_every_command_line_of_the_text():
    found: list[list[int]] = []
    for number, line in TEXT.items():
        if BEGINS.match(line):
            found.append([number])
        elif found and found[-1][-1] == number - 1 and GOES_ON.match(line):
            found[-1].append(number)
    assert found == [list(line.lines) for line in COMMANDS]
    assert TEXT[16].strip().startswith("vnfm snapshots create —include-metrics")
    assert len(TEXT) == len(GUIDE["text"].splitlines())


def test_each_correction_is_for_lines_that_are_commands():
    numbers = {number for line in COMMANDS for number in line.lines}
    for each in (*GUIDE["corrections"], *({"lines": [o["line"]]} for o in OPTIONS)):
        assert set(each["lines"]) <= numbers


OPTIONS = GUIDE["options"]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.id)
def test_a_line_of_the_guide_does_what_the_guide_says(line, desk):
    desk.prepare(line.does)
    ran = desk.run(line.works(desk.manager))
    assert ran.returncode == 0, ran.stderr + ran.stdout
    desk.happened(line.does)
    assert desk.manager.password not in ran.stdout + ran.stderr
    if (line.kind, line.does) == ("cli", "create"):
        desk.has_created_with_what_the_version_knows()
    for each in OPTIONS:
        if line.kind == "cli" and each["line"] in line.lines:
            said = each["said"] and each["said"] in ran.stderr
            assert bool(said) == (desk.manager.traits.version in each["versions"])


@pytest.mark.parametrize(("line", "name", "without"), BROKEN)
def test_a_line_of_the_guide_fails_without_its_correction(line, name, without, desk):
    desk.prepare(line.does)
    ran = desk.run(line.works(desk.manager, without=name))
    written = [path.read_bytes() for path in desk.home.glob("*.zip")]
    read = ran.stdout + ran.stderr + b"".join(written).decode("utf-8", "replace")
    assert re.search(without, read), read
