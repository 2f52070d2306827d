"""Requests with plain curl, as an operator types them."""

import io
import json
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fix_manager import PASSWORD, Manager

CURL_S = 60
ASKED = ("-u", f"admin:{PASSWORD}", "-H", "Tenant: default_tenant")
JSON = ("-H", "Content-Type: application/json")


@dataclass(frozen=True)
class Told:
    """What curl showed of one answer."""

    status: int
    kind: str
    """The content type as it came, empty when there was none."""
    body: bytes
    headers: dict[str, str]
    """By name in lower case."""
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        return self.json["error_code"]

    @property
    def message(self) -> Any:
        return self.json["message"]


def curl(*arguments: str) -> Told:
    """Run curl with these arguments; it must get an answer."""
    with tempfile.TemporaryDirectory(prefix="sg-curl-") as folder:
        body, head = Path(folder, "body"), Path(folder, "head")
        ran = subprocess.run(
            ["curl", "-q", "--silent", "--show-error", "--noproxy", "*",
             "--output", str(body), "--dump-header", str(head),
             "--write-out", "%{http_code} %{time_total} %{content_type}", *arguments],
            capture_output=True, text=True, check=False, timeout=CURL_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        status, seconds, kind = ran.stdout.split(" ", 2)
        lines = head.read_text().splitlines()
        pairs = (line.partition(":") for line in lines if ":" in line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        content = body.read_bytes() if body.exists() else b""
        return Told(int(status), kind, content, headers, float(seconds))


def ask(manager: Manager, path: str, *more: str) -> Told:
    return curl(f"{manager.api}/{path}", *ASKED, *more)


def create(manager: Manager, name: str, **wishes: object) -> Told:
    return ask(manager, f"snapshots/{name}", "-X", "PUT", *JSON, *data(wishes))


def restore(manager: Manager, name: str, **wishes: object) -> Told:
    wanted = {"force": False, "recreate_deployments_envs": True, **wishes}
    return ask(manager, f"snapshots/{name}/restore", *JSON, *data(wanted))


def upload(manager: Manager, name: str, path: Path) -> Told:
    octets = ("-H", "Content-Type: application/octet-stream")
    sent = ("-X", "PUT", *octets, "--data-binary", f"@{path}")
    return ask(manager, f"snapshots/{name}/archive", *sent)


def kill(manager: Manager, execution: str) -> Told:
    return ask(manager, f"executions/{execution}", *JSON, *data({"action": "kill"}))


def data(body: object) -> tuple[str, str]:
    return ("-d", json.dumps(body))


def status(manager: Manager, name: str) -> Any:
    return ask(manager, f"snapshots/{name}").json["status"]


def archive(manager: Manager, name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(ask(manager, f"snapshots/{name}/archive").body))
