"""Faults on a running lab: what the agents say, what is told, and that it heals."""

import io
import zipfile

import httpx
import psycopg
import pytest

from tests.fix_lab import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def opened(cluster, verdict, subject=None, but=()):
    """An open incident of this verdict that is none of `but`."""
    for one in cluster.incidents():
        fits = one["verdict"] == verdict and subject in (None, one["subject"])
        if fits and one["status"] == "open" and one["id"] not in but:
            return one
    return None


def all_over(cluster):
    """Whether no agent has an incident that stands."""
    standing = [one for one in cluster.incidents() if one["status"] != "resolved"]
    return None if standing else True


def test_an_unknown_node_is_named(lab_cluster):
    cluster = lab_cluster
    ran = cluster.command("partition", "n9")
    assert ran.code == 1
    assert "there is no node 'n9'" in ran.words
    assert "n1, n2, n3" in ran.words


def test_the_same_node_killed_twice_gives_two_incidents_and_two_pages(lab_cluster):
    cluster = lab_cluster
    ids: list[str] = []
    for _ in range(2):
        cluster.command.done("kill", "n2")
        one = until(30, lambda: opened(cluster, "node-down", "n2", ids))
        ids.append(one["id"])
        cluster.command.done("start", "n2")
        cluster.until_healthy()
        # Killed again before it counts as over, it would be one trouble that flaps.
        until(30, lambda: all_over(cluster), cluster.incidents)
    assert len(set(ids)) == 2

    def first_pages():
        bodies = [notice["body"] for notice in cluster.notices()]
        opens = [b for b in bodies if b["type"] == "splitguard.incident.opened"]
        paged = [b["data"]["incident"]["id"] for b in opens]
        return [paged.count(one) for one in ids]

    until(20, lambda: first_pages() == [1, 1] or None, first_pages)


def test_a_one_way_cut_is_seen_and_heals(lab_cluster):
    cluster = lab_cluster
    cluster.command.done("partition", "n3", "--one-way", "in")

    def named():
        said = cluster.verdicts("n1") | cluster.verdicts("n2")
        return {verdict for verdict, _ in said} - {"healthy", "unknown"} or None

    assert until(30, named)
    assert "node-down" not in {one["verdict"] for one in cluster.incidents()
                               if one["subject"] == "n3"}  # fmt: skip
    cluster.command.done("heal")
    cluster.until_healthy()


def test_an_isolated_primary_says_so_and_accuses_nobody(lab_cluster):
    cluster = lab_cluster
    cluster.command.done("partition", "n1")
    one = until(30, lambda: opened(cluster, "observer-isolated"))
    assert (one["agent"], one["severity"]) == ("n1", "critical")
    accused = {v for v, _ in cluster.verdicts("n1")}
    assert not accused & {"node-down", "failover"}
    cluster.command.done("heal")
    cluster.until_healthy(90)


def test_write_keeps_what_was_acknowledged(lab_cluster):
    cluster = lab_cluster
    ran = cluster.command.done("write", "--count", "15", "--output", "json")
    log = (cluster.command.state_dir / "acknowledged.jsonl").read_text()
    assert ran.json["acknowledged"] >= 15
    assert len(log.splitlines()) == ran.json["acknowledged"]
    nodes = cluster.command.status()["nodes"]
    [active] = [one["name"] for one in nodes if one["active"]]
    passive = next(one["name"] for one in nodes if not one["active"])
    one = ("write", "--count", "1", "--for", "1", "--output", "json", "--node")
    assert cluster.command.done(*one, active).json["nodes"].keys() == {active}
    none = cluster.command(*one, passive)
    assert (none.code, "only 0 of 1" in none.words) == (1, True)


def test_dsn_tells_how_to_connect_and_no_password(lab_cluster):
    cluster = lab_cluster
    dsn = cluster.command.done("dsn", "n2").out.strip()
    assert "password" not in psycopg.conninfo.conninfo_to_dict(dsn)
    with psycopg.connect(dsn) as connection:
        user = connection.execute("SELECT current_user").fetchone()
    assert user == ("cloudify",)


def manager(cluster):
    """The active manager, as an administrator reaches it."""
    found = cluster.command.status()["nodes"]
    node = next(one for one in found if one["active"])
    password = node["postgres_dsn"].partition("password=")[2]
    return httpx.Client(
        base_url=f"{node['manager_url']}/api/v3.1", auth=("admin", password),
        headers={"Tenant": "default_tenant"}, trust_env=False, timeout=10,
    )  # fmt: skip


def deployments(client):
    return client.get("/deployments").json()["items"]


def test_the_manager_makes_and_keeps_its_own_snapshots(lab_cluster):
    cluster = lab_cluster
    with manager(cluster) as client:
        made = client.put("/deployments/web", json={"content": "one"})
        assert made.status_code == 201
        assert client.put("/deployments/web", json={"content": "x"}).status_code == 409
        said = {"description": "a shop"}
        assert client.patch("/deployments/web", json=said).status_code == 200
        [found] = [o for o in deployments(client) if o["id"] == "web"]
        assert found["description"] == "a shop"
        assert client.put("/snapshots/s1", content=b"{}").status_code == 415
        execution = client.put("/snapshots/s1", json={})
        assert execution.status_code == 201
        assert execution.json()["workflow_id"] == "create_snapshot"

        def created():
            status = client.get("/snapshots/s1").json()["status"]
            return True if status == "created" else None

        until(10, created)
        archive = client.get("/snapshots/s1/archive").content
        assert "metadata.json" in zipfile.ZipFile(io.BytesIO(archive)).namelist()
        assert client.delete("/snapshots/s1").status_code == 200
        assert client.delete("/deployments/web").status_code == 200
        assert "web" not in [one["id"] for one in deployments(client)]
        assert client.delete("/deployments/web").status_code == 404
        assert client.patch("/deployments/web", json=said).status_code == 404
        missing = client.get("/snapshots/s1")
        assert missing.status_code == 404
        assert missing.json()["error_code"] == "not_found_error"
        again = client.put("/snapshots/s2/archive", content=archive)
        assert (again.status_code, again.json()["status"]) == (201, "uploaded")
        wishes = {"force": True, "recreate_deployments_envs": True}
        refused = client.post("/snapshots/s2/restore", json=wishes)
        assert refused.status_code == 400
        # A manager of 4.x restores before it joins, and not on a cluster of several.
        assert refused.json()["error_code"] == "illegal_action_error"


def test_a_manager_that_is_not_active_says_so(lab_cluster):
    cluster = lab_cluster
    node = next(n for n in cluster.command.status()["nodes"] if not n["active"])
    answer = httpx.get(f"{node['manager_url']}/api/v3.1/status", trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "not_cluster_master"
    with manager(cluster) as client:
        assert client.get("/status").status_code == 200
        nobody = client.get("/deployments", auth=("admin", "wrong"))
        assert nobody.status_code == 401
        tenantless = client.get("/deployments", headers={"Tenant": ""})
        assert tenantless.status_code == 403
