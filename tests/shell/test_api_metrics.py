"""The metrics: what Prometheus reads is what the status says."""

from prometheus_client.parser import text_string_to_metric_families

from agent.ports import OutboxCounts
from tests.fix_desk import Served, healthy, node_down, serve, split_brain


async def samples(served: Served):
    async with served.client("read") as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.name.startswith("splitguard_") for family in families)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found, name: str, **labels: str):
    return found.get((f"splitguard_{name}", *sorted(labels.items())))


async def test_a_healthy_cluster_in_numbers():
    served = serve(healthy())
    served.desk.outbox = OutboxCounts(2, 1)
    found = await samples(served)
    assert value(found, "headline_severity") == 0
    assert value(found, "journal_writable") == 1
    assert value(found, "notices_undelivered") == 2
    assert value(found, "notices_dead") == 1
    assert value(found, "node_writable", node="n1") == 1
    assert value(found, "node_writable", node="n2") == 0
    assert value(found, "node_timeline", node="n3") == 1
    assert value(found, "node_lag_bytes", node="n2") == 0
    assert value(found, "node_lag_bytes", node="n1") is None
    assert value(found, "channel_up", node="n3", channel="postgres") == 1
    assert value(found, "incidents", severity="critical", status="open") == 0
    assert 0 <= value(found, "data_age_seconds") < 2


async def test_a_dead_node_has_no_role_and_no_lag():
    served = serve(node_down())
    served.desk.journal_error = "disk full"
    found = await samples(served)
    labels = {
        "verdict": "node-down", "family": "reach", "subject": "n3",
        "severity": "critical",
    }  # fmt: skip
    assert value(found, "verdict", **labels) == 1
    assert value(found, "headline_severity") == 4
    assert value(found, "journal_writable") == 0
    assert value(found, "node_writable", node="n3") is None
    assert value(found, "channel_up", node="n3", channel="agent") == 0
    assert value(found, "incidents", severity="critical", status="open") == 1


async def test_captures_are_counted_in_bytes():
    found = await samples(serve(split_brain(), "n1"))
    captures = [key for key in found if key[0] == "splitguard_capture"]
    assert len(captures) == 1
    assert ("grade", "complete") in captures[0]
