"""The exact change by which HA software comes to use the shim.

Theory of operation. Patroni takes a program's name per program since 3.0.3
(`bin_name`); an older one looks for all programs in one folder (`bin_dir`), so it
gets a folder of links in which pg_rewind is the shim. repmgr takes the path as an
argument. Each text is what a person puts into a file or types, with its paths.
"""

import shlex
from pathlib import Path

from agent.errors import GuardError
from agent.guard.shim import PROGRAM, REPLICA, Shim


def how_to(place: Path, links: Path | None) -> str:
    """Return what to change, and how to see that it worked."""
    quoted = shlex.quote(str(place))
    replica = place.with_name(REPLICA)
    parts = [
        "Patroni 3.0.3 and later, in each node's patroni.yml:",
        "",
        "postgresql:",
        "  bin_name:",
        f"    pg_rewind: {_yaml(place)}",
        "",
    ]
    if links is None:
        parts += [
            "Patroni before 3.0.3 takes a folder of links: run this with --links DIR.",
        ]
    else:
        parts += [
            "Patroni before 3.0.3, in each node's patroni.yml:",
            "",
            "postgresql:",
            f"  bin_dir: {_yaml(links)}",
        ]
    parts += [
        "",
        "Either takes effect with `patronictl reload CLUSTER NODE`. See it with",
        "`splitguard guard check --patroni FILE`.",
        "",
        "So that a reinitialised node keeps its old data, in each node's patroni.yml:",
        "",
        "postgresql:",
        "  create_replica_methods:",
        "    - splitguard",
        "  splitguard:",
        f"    command: {_yaml(Path(shlex.quote(str(replica))))}",
        "    keep_data: true",
        "",
        "repmgr, whoever rejoins a node:",
        "",
        f"repmgr node rejoin --force-rewind={quoted} -d CONNINFO",
        "",
        "By hand, instead of pg_rewind:",
        "",
        f"{quoted} -D PGDATA --source-server CONNINFO",
    ]
    return "\n".join(parts)


def make_links(folder: Path, place: Path, shim: Shim) -> None:
    """Make a folder with a link to each of PostgreSQL's programs, and to the shim.

    A folder that is there is completed; what is in it and is no link stays as it is.
    Raises GuardError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for program in sorted(shim.real.parent.iterdir()):
            _link(folder / program.name, program)
        _link(folder / PROGRAM, place)
    except OSError as error:
        raise GuardError(
            f"{error.filename or folder}: no link can be made: {error.strerror}",
            "run this as root, or choose another folder with --links",
        ) from error


def _link(at: Path, target: Path) -> None:
    """Make `at` a link to `target`, replacing a link at once."""
    if at.is_symlink() and at.readlink() == target:
        return
    aside = at.with_name(f".{at.name}.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    if at.exists() and not at.is_symlink():
        aside.unlink()
        raise GuardError(
            f"{at} is there and is no link", "choose another folder with --links"
        )
    aside.replace(at)


def _yaml(path: Path) -> str:
    """Return the path as YAML reads it back: quoted where it has to be."""
    text = str(path)
    plain = all(letter.isalnum() or letter in "/._-" for letter in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
