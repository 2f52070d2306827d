"""The script that psql runs: where it may run, how, and in which order.

Theory of operation. It stops before it writes anything on a server that is no primary,
that belongs to another cluster, or that is connected to another database. Settings are
those under which the rows were compared, but for the search path, which the winner's
own triggers may need. One advisory lock keeps two rescues of a database apart. With
`-v leave_out=1` psql puts a savepoint before every statement and goes on past what the
winner refuses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.divergence.rescue_ground import FREE_SQL, LEDGER_SQL, THERE_SQL
from agent.divergence.rescue_plan import Plan
from agent.divergence.rescue_quote import literal, qualified
from agent.divergence.values import SETTINGS

MAPPING = "renumbered.csv"
LOCK = 0x5350_4C49_5447_5244
"""The advisory lock that one rescue of a database holds."""
_NOT_OURS = ("search_path", "max_", "jit", "synchronize_", "quote_all_")
PRINTING = {
    name: value for name, value in SETTINGS.items() if not name.startswith(_NOT_OURS)
}
"""Under which values print as they did when they were compared."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a rescue is meant for."""

    system_id: str
    database: str


def settings_sql() -> str:
    """Return the statement that fixes how values print."""
    pairs = {**PRINTING, "client_min_messages": "warning"}
    wanted = ", ".join(
        f"({literal(name)}, {literal(value)})" for name, value in pairs.items()
    )
    return (
        "SELECT set_config(s.name, w.value, false) FROM pg_settings s"  # noqa: S608 - constants
        f" JOIN (VALUES {wanted}) w (name, value) ON lower(s.name) = lower(w.name);"
    )


def preparations(plan: Plan) -> Iterator[str]:
    """Yield what is run in the transaction before the first row."""
    if plan.survey.needs_ledger:
        yield from LEDGER_SQL
    if plan.deletes:
        yield FREE_SQL
    if plan.kin.any_noted:
        yield THERE_SQL
    targets = sorted({qualified(key.table) for key in plan.kin.awaited()})
    if targets:
        # What refers to them is written first: nobody may take their keys meanwhile.
        yield f"LOCK TABLE {', '.join(targets)} IN SHARE ROW EXCLUSIVE MODE;"
    yield "SET CONSTRAINTS ALL IMMEDIATE;"
    deferred = ", ".join(map(qualified, plan.kin.deferred()))
    if deferred:
        yield f"SET CONSTRAINTS {deferred} DEFERRED;"


def script_lines(goal: Target, plan: Plan, files: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the script."""
    yield f"-- Rows of a losing side ({plan.origin}), to be put into the winner:"
    yield "--   psql -X -d DATABASE -f rescue.sql"
    yield "-- It may be run again. To leave out what the winner refuses: -v leave_out=1"
    yield "\\set QUIET on"
    yield "\\set ON_ERROR_STOP on"
    yield "\\o /dev/null"
    yield "SET client_encoding = 'UTF8';"
    yield settings_sql()
    yield _check(goal)
    yield "BEGIN;"
    yield f"SELECT pg_advisory_xact_lock({LOCK});"
    yield from preparations(plan)
    yield "\\if :{?leave_out}"
    yield "\\set ON_ERROR_STOP off"
    yield "\\set ON_ERROR_ROLLBACK on"
    yield "\\endif"
    for file in files:
        yield f"\\echo '{file}'"
        yield f"\\ir '{file}'"
    yield "\\set ON_ERROR_STOP on"
    yield "COMMIT;"
    yield "\\o"
    if plan.survey.needs_ledger:
        query = plan.statements.mapping()
        yield f"\\copy ({query}) TO '{MAPPING}' WITH (FORMAT csv, HEADER)"


def _check(goal: Target) -> str:
    """Return what stops the script where it does not belong."""
    foreign = (
        "(SELECT system_identifier FROM pg_control_system())::text"  # noqa: S608 - a constant
        f" <> {literal(goal.system_id)}"
    )
    elsewhere = f"current_database() <> {literal(goal.database)}"
    wrong = (
        ("pg_is_in_recovery()", "this server is a standby: run it on the primary"),
        (foreign, "this server belongs to another cluster"),
        (elsewhere, "this is another database than the rows were lost from"),
    )
    checks = " ".join(
        f"IF {condition} THEN RAISE EXCEPTION 'splitguard: {words}'; END IF;"
        for condition, words in wrong
    )
    return f"DO $check$ BEGIN {checks} END $check$;"
