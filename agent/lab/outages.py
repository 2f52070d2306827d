"""The stories of a dead node: a standby, and the primary.

Both kill a whole machine as a power cut would, wait for what the agents say, switch
the machine on again and wait until every agent calls the cluster healthy.
"""

import time
from typing import Any

from agent.lab.evidence import incidents_out, notices_out, snapshots_out, webhook_delay
from agent.lab.sights import agents_trouble
from agent.lab.split_brain import version_text
from agent.lab.stage import Stage, Telling, span, wall_s

STANDBY = "n2"
PRIMARY = "n1"
SEE_S = 30.0
BACK_S = 90.0


def node_down(stage: Stage) -> dict[str, Any]:
    """Kill a standby's machine and bring it back. Raises LabError."""
    killed_s = _kill(stage, STANDBY)
    down = _until_told(stage, "node-down", STANDBY)
    started_s = _start(stage, STANDBY)
    resolved_s = _until_resolved(stage, down)
    stage.until("the cluster to be healthy", BACK_S, lambda: _healthy(stage))
    stage.say("healthy again")
    return _result(stage, "node-down") | {
        "timings_s": {
            "kill_to_incident": span(killed_s, wall_s(down.detail["opened"])),
            "verdict_to_webhook": webhook_delay(stage, stage.incidents()),
            "start_to_resolved": span(started_s, resolved_s),
            "start_to_healthy": span(started_s, time.time()),
        }
    }


def failover(stage: Stage) -> dict[str, Any]:
    """Kill the primary's machine, and bring it back as a standby. Raises LabError."""
    killed_s = _kill(stage, PRIMARY)
    new = stage.until("another one to be promoted", SEE_S, lambda: _new_primary(stage))
    promoted_s = time.time()
    stage.say(f"{new} was promoted")
    moved = _until_told(stage, "failover", None)
    started_s = _start(stage, PRIMARY)
    stage.until(f"{PRIMARY} to follow", BACK_S, lambda: _follows(stage, PRIMARY))
    followed_s = time.time()
    stage.say(f"{PRIMARY} was resynced and follows {new}")
    stage.until("the cluster to be healthy", BACK_S, lambda: _healthy_by_ack(stage))
    stage.say("healthy again, the failover acknowledged")
    return _result(stage, "failover") | {
        "timings_s": {
            "kill_to_promoted": span(killed_s, promoted_s),
            "kill_to_incident": span(killed_s, wall_s(moved.detail["opened"])),
            "verdict_to_webhook": webhook_delay(stage, stage.incidents()),
            "start_to_standby": span(started_s, followed_s),
            "start_to_healthy": span(started_s, time.time()),
        }
    }


def _kill(stage: Stage, node: str) -> float:
    stage.lab.ask("kill", node=node)
    stage.say(f"the machine {node} is dead")
    return time.time()


def _start(stage: Stage, node: str) -> float:
    stage.lab.ask("start", node=node)
    stage.say(f"the machine {node} is switched on again")
    return time.time()


def _until_told(stage: Stage, verdict: str, subject: str | None) -> Telling:
    telling = stage.until(
        f"an agent to say {verdict}",
        SEE_S,
        lambda: stage.open_incident(verdict, subject=subject),
    )
    stage.say(f"{telling.agent} says: {telling.detail['sentence']}")
    return telling


def _until_resolved(stage: Stage, telling: Telling) -> float:
    wanted = telling.detail["id"]

    def resolved() -> float | None:
        same = [t for t in stage.incidents() if t.detail["id"] == wanted]
        ends = [t.detail["resolved"] for t in same]
        return max(map(wall_s, ends)) if ends and all(ends) else None

    return stage.until(f"{wanted} to be resolved", BACK_S, resolved)


def _healthy(stage: Stage) -> bool | None:
    return None if agents_trouble(stage.plan) else True


def _healthy_by_ack(stage: Stage) -> bool | None:
    """Take what waits for a person, until every agent calls the cluster healthy."""
    if _healthy(stage):
        return True
    for telling in stage.incidents():
        if telling.detail["sticky"] and telling.detail["status"] == "open":
            stage.acknowledge(telling)
    return None


def _new_primary(stage: Stage) -> str | None:
    for standing in stage.standings().values():
        if standing.active and standing.name != PRIMARY:
            return standing.name
    return None


def _follows(stage: Stage, node: str) -> bool | None:
    standing = stage.standings().get(node)
    if standing is None or standing.server is None or standing.busy:
        return None
    return standing.server.in_recovery or None


def _result(stage: Stage, scenario: str) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "postgres_version": version_text(stage.plan.version_num),
        "incidents": incidents_out(stage),
        "notices": notices_out(stage),
        "snapshots": snapshots_out(stage.plan),
    }
