"""Maintenance mode, tokens and the audit log.

Source: `maintenance.py`, `resources_v3_1/tokens.py` and the API service's audit routes.
In the answer to a POST the remaining executions are a list in a list; a mode that is
set already answers 304 with nothing.
"""

from datetime import UTC, datetime

from starlette.responses import Response

from agent.lab.standin.answers import Refusal, Shown, bad_parameter, reply
from agent.lab.standin.asked import Asked
from agent.lab.standin.desk import Desk
from agent.lab.standin.listing import listed
from agent.lab.standin.rows import stamp

OFF = "deactivated"
TOKEN_FIELDS = (
    "id",
    "username",
    "value",
    "role",
    "expiration_date",
    "last_used",
    "description",
)
AUDIT_FIELDS = (
    "id",
    "ref_table",
    "ref_id",
    "ref_identifier",
    "operation",
    "creator_name",
    "execution_id",
    "created_at",
)
SINCE_TOKENS_ARE_ROWS = (6, 3)


# --- maintenance --------------------------------------------------------------


def maintenance(desk: Desk, _: Asked) -> Response:
    """Tell the mode."""
    row = desk.rows.maintenance()
    if row is None:
        return reply(
            {
                "status": OFF,
                "activated_at": "",
                "remaining_executions": None,
                "requested_by": "",
                "activation_requested_at": "",
            }
        )
    remaining = _remaining(desk) if row["status"] == "activating" else None
    return reply(_mode(row, remaining))


def set_maintenance(desk: Desk, asked: Asked, action: str) -> Response:
    """Switch the mode on or off."""
    if action not in {"activate", "deactivate"}:
        valid = ["activate", "deactivate"]
        raise bad_parameter(
            f"Invalid action: {action}, Valid action values are: {valid}"
        )
    row = desk.rows.maintenance()
    if (row is not None) == (action == "activate"):
        return Response(status_code=304)
    if row is not None:
        desk.rows.ask("DELETE FROM maintenance_mode")
        return reply(_mode({**row, "status": OFF}, None))
    remaining = _remaining(desk)
    status = "activating" if remaining else "activated"
    made = desk.rows.ask(
        "INSERT INTO maintenance_mode (id, status, requested_by, activated_at) VALUES "
        "(1, %s, %s, CASE WHEN %s THEN clock_timestamp() END) RETURNING *",
        (status, asked.user, not remaining),
    )[0]
    return reply(_mode(made, [remaining]))


def settled_mode(desk: Desk) -> str:
    """Return the mode; one that is being entered is settled once nothing runs."""
    row = desk.rows.maintenance()
    if row is None:
        return OFF
    if row["status"] == "activating" and not _remaining(desk):
        desk.rows.ask(
            "UPDATE maintenance_mode SET status = 'activated', "
            "activated_at = clock_timestamp()"
        )
        return "activated"
    return str(row["status"])


def _remaining(desk: Desk) -> list[Shown]:
    rows = desk.rows.ask(
        "SELECT id, status, workflow_id FROM executions WHERE ended_at IS NULL "
        "ORDER BY _storage_id"
    )
    return [{**row, "deployment_id": None} for row in rows]


def _mode(row: Shown, remaining: object) -> Shown:
    return {
        "status": row["status"],
        "activated_at": stamp(row["activated_at"]) or "",
        "remaining_executions": remaining,
        "requested_by": row["requested_by"],
        "activation_requested_at": stamp(row["activation_requested_at"]),
    }


# --- tokens -------------------------------------------------------------------


def tokens(desk: Desk, asked: Asked) -> Response:
    """List them, masked; before 6.3 a new one is given instead."""
    if desk.traits.numbers < SINCE_TOKENS_ARE_ROWS:
        return make_token(desk, asked)
    rows = desk.rows.ask("SELECT * FROM tokens WHERE username = %s", (asked.user,))
    return listed(asked, [_masked(row) for row in rows], TOKEN_FIELDS)


def make_token(desk: Desk, asked: Asked) -> Response:
    """Make one; its value is shown this once."""
    if desk.traits.numbers < SINCE_TOKENS_ARE_ROWS:
        value = desk.door.old_token(asked.user)
        role = _role(asked.user)
        return reply({"username": asked.user, "value": value, "role": role})
    body = asked.json()
    description = body.get("description")
    if description is not None and not isinstance(description, str):
        raise bad_parameter(
            "description parameter is expected to be of type str but is of type "
            f"{type(description).__name__}"
        )
    expires = _expires(body.get("expiration_date"))
    name, value, secret_hash = desk.door.new_token()
    row = desk.rows.ask(
        "INSERT INTO tokens (id, secret_hash, username, description, expiration_date) "
        "VALUES (%s, %s, %s, %s, %s) RETURNING *",
        (name, secret_hash, asked.user, description, expires),
    )[0]
    return reply({**_masked(row), "value": value})


def token(desk: Desk, _: Asked, name: str) -> Response:
    """Tell of one."""
    rows = desk.rows.ask("SELECT * FROM tokens WHERE id = %s", (name,))
    if not rows:
        raise _no_token(name)
    return reply(_masked(rows[0]))


def drop_token(desk: Desk, _: Asked, name: str) -> Response:
    """Delete one."""
    if not desk.rows.ask("DELETE FROM tokens WHERE id = %s RETURNING id", (name,)):
        raise _no_token(name)
    return Response(status_code=204)


def _no_token(name: str) -> Refusal:
    return Refusal(404, "not_found_error", f"Could not find token {name}")


def _masked(row: Shown) -> Shown:
    return {
        "id": row["id"],
        "username": row["username"],
        "value": f"ctok-{row['id']}-********",
        "role": _role(row["username"]),
        "expiration_date": stamp(row["expiration_date"]),
        "last_used": stamp(row["last_used"]),
        "description": row["description"],
    }


def _role(user: str) -> str:
    return "sys_admin" if user == "admin" else "default"


def _expires(text: object) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise bad_parameter(f"Invalid date: {text}") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at <= datetime.now(UTC):
        raise bad_parameter("Expiration date was in the past.")
    return at


# --- the audit log ------------------------------------------------------------


def audit(desk: Desk, asked: Asked) -> Response:
    """List what was done, oldest first; filtered by time, creator, execution."""
    since, before = (_time(asked.one(name)) for name in ("since", "before"))
    rows = [
        _audited(row)
        for row in desk.rows.audit_log()
        if (since is None or row["created_at"] >= since)
        and (before is None or row["created_at"] <= before)
    ]
    query = {k: v for k, v in asked.query.items() if k not in {"since", "before"}}
    asked.query = query
    return listed(asked, rows, AUDIT_FIELDS)


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_parameter(f"Invalid date: {text}") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _audited(row: Shown) -> Shown:
    return {
        **{key: row[key] for key in AUDIT_FIELDS if key not in {"id", "created_at"}},
        "id": row["_storage_id"],
        "created_at": stamp(row["created_at"]),
    }
