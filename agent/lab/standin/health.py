"""What a manager says of itself and of its cluster.

Theory of operation. `/ok` (7.x) needs no login; `/status` lists the services; from
5.0.5 on `/cluster-status` judges managers, databases and brokers: a kind without a
quorum is Fail, and with `?summary=true` a Fail is answered with 500. It says nothing
about which database leads. In 4.x `/status` is 200 on the active manager alone.
Source: `resources_v3_1/status.py`, `cluster_status_manager.py`, `systemddbus.py`.
"""

import time

from starlette.responses import Response

from agent.lab.standin.answers import Refusal, Shown, reply
from agent.lab.standin.asked import Asked
from agent.lab.standin.desk import Desk
from agent.lab.standin.traits import Peer

KINDS = ("manager", "db", "broker")
SERVICES = {
    "nginx": "Webserver",
    "cloudify-mgmtworker": "Management Worker",
    "cloudify-restservice": "Manager Rest-Service",
    "cloudify-api": "Cloudify API",
    "cloudify-execution-scheduler": "Cloudify Execution Scheduler",
    "cloudify-rabbitmq": "RabbitMQ",
    "postgresql-14": "PostgreSQL",
    "cloudify-syncthing": "File Sync Service",
}
OLD_SERVICES = {
    "cloudify-mgmtworker.service": "Management Worker",
    "cloudify-restservice.service": "Manager Rest-Service",
    "cloudify-rabbitmq.service": "RabbitMQ",
    "cloudify-amqp-postgres.service": "AMQP-Postgres",
    "nginx.service": "Webserver",
    "cloudify-postgresql.service": "PostgreSQL",
    "cloudify-consul.service": "Consul",
    "cloudify-syncthing.service": "Syncthing",
}
UNIT_OF_KIND = {
    "manager": "cloudify-restservice",
    "db": "patroni",
    "broker": "cloudify-rabbitmq",
}
PREMIUM = (
    "This feature exists only in the premium edition of Cloudify.\nPlease contact "
    "sales for additional info."
)


def ok(desk: Desk, _: Asked) -> Response:
    """Tell a load balancer whether all is well."""
    return reply("FAIL", 500) if dead_services(desk) else reply("OK")


def status(desk: Desk, asked: Asked) -> Response:
    """Tell of the services."""
    if not desk.traits.all_active:
        return reply({"status": "running", "services": _old_services(desk)})
    dead = dead_services(desk)
    word = "Fail" if dead else "OK"
    if asked.flag("summary", default=False):
        return reply({"status": word, "services": {}})
    names = _service_names(desk)
    services = {
        name: {
            "status": "Inactive" if name in dead else "Active",
            "is_remote": False,
            "extra_info": _extra(unit, name, alive=name not in dead),
        }
        for unit, name in names.items()
    }
    return reply({"status": word, "services": services})


def version(desk: Desk, _: Asked) -> Response:
    """Tell the version."""
    return reply(
        {
            "edition": desk.traits.edition,
            "version": desk.traits.version,
            "build": None,
            "date": None,
            "commit": None,
            "distribution": "centos",
            "distro_release": "core",
        }
    )


def cluster_status(desk: Desk, asked: Asked) -> Response:
    """Judge the cluster."""
    services = {kind: _kind(desk, kind) for kind in KINDS}
    words = {each["status"] for each in services.values()}
    word = next((word for word in ("Fail", "Degraded") if word in words), "OK")
    if asked.flag("summary", default=False):
        code = 500 if word == "Fail" else 200
        return reply({"status": word, "services": {}}, code)
    return reply({"status": word, "services": services})


def managers(desk: Desk, asked: Asked) -> Response:
    """List the managers."""
    hostname = asked.one("hostname")
    found = [
        each for each in nodes_of(desk, "manager") if hostname in {None, each.name}
    ]
    return _plain_list(
        [
            {
                "id": number,
                "hostname": peer.name,
                "private_ip": peer.address,
                "public_ip": peer.address,
                "version": desk.traits.version,
                "edition": desk.traits.edition,
                "distribution": "centos",
                "distro_release": "core",
                "fs_sync_node_id": "",
                "networks": {"default": peer.address},
                "last_seen": None,
                "status_report_frequency": None,
                "ca_cert_content": "",
            }
            for number, peer in enumerate(found)
        ]
    )


def brokers(desk: Desk, _: Asked) -> Response:
    """List the brokers, with the password in clear, as a manager does."""
    return _plain_list(
        [
            {
                "name": peer.name,
                "host": peer.address,
                "management_host": "127.0.0.1",
                "port": 5671,
                "username": "cloudify",
                "password": f"broker-{desk.traits.database_password}",
                "params": {},
                "networks": {"default": peer.address},
                "is_external": False,
                "ca_cert_content": "",
            }
            for peer in nodes_of(desk, "broker")
        ]
    )


def db_nodes(desk: Desk, _: Asked) -> Response:
    """List the database nodes."""
    return _plain_list(
        [
            {"name": peer.name, "host": peer.address, "is_external": False}
            for peer in nodes_of(desk, "db")
        ]
    )


def premium_only(_desk: Desk, _asked: Asked, *_: str) -> Response:
    """Refuse what the community edition has not."""
    raise Refusal(404, "missing_premium_package_error", PREMIUM)


def license_check(desk: Desk, _asked: Asked) -> Response:
    """Answer `GET /license-check`, which the client asks before it uploads.

    A premium manager here has its license, and a community one no customer's id.
    """
    if desk.traits.edition == "premium":
        return reply("OK")
    words = "No Customer ID found on the manager"
    return reply({"message": words, "error_code": "missing_cloudify_license"}, 400)


def nodes_of(desk: Desk, kind: str) -> tuple[Peer, ...]:
    """Return the nodes of a kind; a manager alone has one of each: itself."""
    found = tuple(each for each in desk.office.peers if each.kind == kind)
    if not found and not desk.office.peers:
        return (Peer(kind, desk.office.name, "127.0.0.1", master=True),)
    return found


def dead_services(desk: Desk) -> set[str]:
    """Return the services that do not work; looking for the broker takes a while."""
    dead = set()
    if desk.faults.broker_dead:
        desk.closing.wait(desk.traits.broker_look_s)
        dead.add("RabbitMQ")
    if desk.faults.worker_dead:
        dead.add("Management Worker")
    return dead


def _service_names(desk: Desk) -> dict[str, str]:
    """Return units and their names; without PostgreSQL over a database cluster."""
    clustered = len(nodes_of(desk, "db")) > 1
    return {
        unit: name
        for unit, name in SERVICES.items()
        if not (clustered and name == "PostgreSQL")
    }


def _extra(unit: str, name: str, *, alive: bool) -> Shown:
    if name == "RabbitMQ":
        return {"connection_check": "OK" if alive else "Connection error"}
    state = "running" if alive else "stopped"
    instance = {"Description": name, "state": state, "Id": f"{unit}.service"}
    systemd = {"instances": [instance], "display_name": name, "unit_id": unit}
    return {"systemd": systemd}


def _old_services(desk: Desk) -> list[Shown]:
    dead = dead_services(desk)
    return [
        {
            "display_name": name,
            "unit_id": unit,
            "instances": [
                {
                    "Id": unit,
                    "Description": name,
                    "LoadState": "loaded",
                    "ActiveState": "failed" if name in dead else "active",
                    "SubState": "failed" if name in dead else "running",
                    "state": "failed" if name in dead else "running",
                    "MainPID": 0 if name in dead else 1000 + number,
                }
            ],
        }
        for number, (unit, name) in enumerate(OLD_SERVICES.items())
    ]


def _kind(desk: Desk, kind: str) -> Shown:
    peers = nodes_of(desk, kind)
    good = sum(_is_well(desk, peer) for peer in peers)
    quorum = 1 if kind == "manager" else len(peers) // 2 + 1
    word = "Degraded" if good < len(peers) else "OK"
    return {
        "status": "Fail" if good < quorum else word,
        "is_external": False,
        "nodes": {peer.name: _node(desk, peer) for peer in peers},
    }


def _is_well(desk: Desk, peer: Peer) -> bool:
    own = peer.name == desk.office.name and peer.kind == "broker"
    return peer.online and not peer.failures and not (own and desk.faults.broker_dead)


def _node(desk: Desk, peer: Peer) -> Shown:
    well = _is_well(desk, peer)
    unit = UNIT_OF_KIND[peer.kind]
    name = {"db": "Patroni HA Postgres"}.get(peer.kind, SERVICES.get(unit, unit))
    failures = list(peer.failures)
    if not well and not failures:
        failures = [f"service {name} is in state stopped"]
    metric = {
        "last_check": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "healthy": well,
        "metric_type": unit,
        "metric_name": peer.kind,
    }
    return {
        "status": "OK" if well else "Fail",
        "private_ip": peer.address,
        "public_ip": peer.address,
        "version": desk.traits.version,
        "services": {
            name: {
                "status": "Active" if well else "Inactive",
                "extra_info": _extra(unit, "", alive=well),
            }
        },
        "metrics": [metric],
        "failures": failures,
    }


def _plain_list(items: list[Shown]) -> Response:
    pagination = {"total": len(items), "size": 1000, "offset": 0}
    return reply({"items": items, "metadata": {"pagination": pagination}})
