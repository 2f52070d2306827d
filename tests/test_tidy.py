"""The house law: what the repository promises about itself, one law a test."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
PACKAGE_DOCSTRING_LINES_MIN = 3

TOP_LEVEL = {
    ".ci", ".editorconfig", ".gitattributes", ".gitignore", "CHANGELOG.md",
    "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "agent", "deploy", "openapi",
    "pyproject.toml", "requirements-build.lock", "requirements-cfy.lock",
    "requirements-dev.lock",
    "requirements-lab.lock", "requirements-patroni.lock", "requirements.lock", "tests",
}  # fmt: skip

# Third-party (and one standard) library -> the only modules that may import it.
OWNERS = {
    "apscheduler": {"agent.daemon"},
    "cattrs": {"agent.codec"},
    "fastapi": {"agent.api", "agent.lab", "agent.web"},
    "httpx": {"agent.transport"},
    "obstore": {"agent.snapshot"},
    "psycopg": {
        "agent.divergence", "agent.lab", "agent.postgres", "agent.probe",
        "agent.snapshot",
    },
    "pyrage": {"agent.snapshot"},
    "rich": {"agent.cli"},
    "sqlite3": {"agent.store"},
    "typer": {"agent.cli"},
    "yaml": {"agent.guard"},
    "zstandard": {"agent.divergence", "agent.snapshot"},
}  # fmt: skip

# A letter in brackets keeps this file from breaking the law that it holds.
LEFTOVER = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b")
BARE_IGNORE = re.compile(r"#\s*type:\s*ignor[e](?!\[)")
LOCKED = re.compile(r"^([a-z0-9-]+)==\S.*\\\n    --hash=sha256:", re.MULTILINE)
FOREIGN_ADDRESS = re.compile(
    r"(?<![\w.~-])/(?:wor[k]|roo[t])/"
    r"|pyp[i]\.org|pythonhoste[d]\.org|npmj[s]\.org|deb\.debia[n]\.org"
)


def repository_files() -> list[Path]:
    """Every file that a commit of this work tree would hold."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    paths = [ROOT / name for name in sorted(set(listing.stdout.split("\0"))) if name]
    return [path for path in paths if path.is_file()]


FILES = repository_files()
MODULES = [path for path in FILES if path.suffix == ".py"]
AGENT_MODULES = [path for path in MODULES if path.is_relative_to(ROOT / "agent")]


def name(path: Path) -> str:
    """How a law names the file that broke it."""
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    """The module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=name(path))


def lines_matching(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[str]:
    """`file:line` of each line of text that matches."""
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture has no lines
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{name(path)}:{number}"


def imported_names(module: ast.Module) -> Iterator[str]:
    """Every dotted name that the module imports, wherever in it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_no_function_is_longer_than_seventy_lines():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    broken = [
        f"{name(path)}:{node.lineno} {node.name}: {length} lines"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, kinds)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1)
        > FUNCTION_LINES_MAX
    ]
    assert not broken


def test_no_module_of_the_agent_is_longer_than_four_hundred_lines():
    lengths = {
        name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in AGENT_MODULES
    }
    assert not {k: v for k, v in lengths.items() if v > MODULE_LINES_MAX}


def test_every_module_opens_with_what_it_is_for():
    assert not [name(path) for path in MODULES if not ast.get_docstring(tree(path))]


def test_every_package_of_the_agent_explains_itself():
    broken = []
    for path in AGENT_MODULES:
        if path.name != "__init__.py" or (path.parent / "DESIGN.md").exists():
            continue
        lines = (ast.get_docstring(tree(path)) or "").splitlines()
        if len(lines) < PACKAGE_DOCSTRING_LINES_MIN:
            broken.append(name(path))
    assert not broken


def test_no_work_is_left_as_a_mark_in_the_text():
    texts = [path for path in FILES if ".min." not in path.name]
    assert not list(lines_matching(LEFTOVER, texts))


def test_no_type_error_is_ignored_without_its_code():
    assert not list(lines_matching(BARE_IGNORE, MODULES))


def test_no_file_names_a_package_index_or_a_path_of_one_machine():
    assert not list(lines_matching(FOREIGN_ADDRESS, FILES))


def test_the_top_level_holds_only_the_agreed_names():
    assert not {path.relative_to(ROOT).parts[0] for path in FILES} - TOP_LEVEL


def test_every_library_is_imported_by_its_owners_only():
    broken = []
    for path in AGENT_MODULES:
        owner = ".".join(path.relative_to(ROOT).with_suffix("").parts[:2])
        for imported in imported_names(tree(path)):
            owners = OWNERS.get(imported.partition(".")[0])
            if owners is not None and owner not in owners:
                broken.append(f"{name(path)} imports {imported}")
    assert not broken


def test_every_dependency_is_locked_with_a_hash():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runtime = project["dependencies"]
    wanted = {
        "requirements.lock": runtime,
        "requirements-lab.lock": runtime + project["optional-dependencies"]["lab"],
        "requirements-dev.lock": runtime + project["optional-dependencies"]["lab"],
    }
    for lock, requirements in wanted.items():
        text = (ROOT / lock).read_text("utf-8")
        pins = set(LOCKED.findall(text))
        names = {re.split(r"[^a-z0-9-]", item, maxsplit=1)[0] for item in requirements}
        assert names <= pins, lock
        assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), lock
