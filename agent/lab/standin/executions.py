"""The execution routes: a list without system workflows, unless they are asked for.

Source: `resources_v1/executions.py` and `cancel_execution` of the REST service.
"""

from starlette.responses import Response

from agent.lab.standin.answers import Refusal, Shown, bad_parameter, missing, reply
from agent.lab.standin.asked import Asked
from agent.lab.standin.desk import Desk
from agent.lab.standin.listing import included, listed
from agent.lab.standin.rows import ACTIVE

FIELDS = (
    "id",
    "visibility",
    "created_at",
    "ended_at",
    "error",
    "is_system_workflow",
    "parameters",
    "parameters_p",
    "status",
    "status_display",
    "workflow_id",
    "started_at",
    "scheduled_for",
    "is_dry_run",
    "resume",
    "total_operations",
    "finished_operations",
    "allow_custom_parameters",
    "blueprint_id",
    "deployment_id",
    "deployment_display_name",
    "tenant_name",
    "created_by",
    "resource_availability",
    "private_resource",
)
ACTIONS = ("cancel", "force-cancel", "kill", "resume", "force-resume", "requeue")
CANCELLING = {
    "cancel": "cancelling",
    "force-cancel": "force_cancelling",
    "kill": "kill_cancelling",
}
WAITING = ("queued", "scheduled")


def executions(desk: Desk, asked: Asked) -> Response:
    """List them."""
    everywhere = asked.flag("_all_tenants", default=False)
    system = asked.flag("_include_system_workflows", default=False)
    rows = desk.rows.executions(None if everywhere else asked.tenant)
    found = [
        desk.shown_execution(row)
        for row in rows
        if system or not row["is_system_workflow"]
    ]
    return listed(asked, found, FIELDS)


def execution(desk: Desk, asked: Asked, name: str) -> Response:
    """Tell of one."""
    return reply(included(asked, desk.shown_execution(_find(desk, name)), FIELDS))


def act(desk: Desk, asked: Asked, name: str) -> Response:
    """Cancel or kill one; it is cancelled only a moment after the answer."""
    action = asked.json("action").must("action")
    if action not in ACTIONS:
        raise bad_parameter(
            f"Invalid action: {action}, Valid action values are: {list(ACTIONS)}"
        )
    row = _find(desk, name)
    if action not in CANCELLING:
        raise _illegal(f"Cannot {action} execution: `{name}` in state {row['status']}")
    kill = action == "kill" or row["status"] in WAITING
    wanted = CANCELLING["kill" if kill else action]
    if not kill and row["status"] not in _may_be(action):
        force = "force-" if action == "force-cancel" else ""
        raise _illegal(
            f"Can't {force}cancel execution {name} because it's in status "
            f"{row['status']}"
        )
    desk.rows.move_execution(name, wanted, (*ACTIVE, *WAITING, row["status"]))
    desk.publish(row)
    return reply(desk.shown_execution({**row, "status": wanted}))


def _may_be(action: str) -> tuple[str, ...]:
    running = ("pending", "started", "scheduled")
    return (*running, "cancelling") if action == "force-cancel" else running


def _find(desk: Desk, name: str) -> Shown:
    row = desk.rows.execution(name)
    if row is None:
        raise missing("Execution", name)
    return row


def _illegal(message: str) -> Refusal:
    return Refusal(400, "illegal_action_error", message)
