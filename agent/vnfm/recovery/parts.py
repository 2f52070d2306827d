"""The steps that several scenarios share: keep the certificates, install, join, prove.

Theory of operation. The commands are those of the managers' own tools, for both
generations. Before 5.0.5 a manager is installed alone and then joined, empty, to the
one that is active; from then on `cfy_manager install` finds the cluster in config.yaml
and joins by itself. Source: cfy_manager and cfy, 4.5.5 to 7.0.5.
"""

from agent.vnfm.recovery.model import Each, Kind, Lines, Step, Words, both, lines

INSTALL_S = 2 * 3600.0
"""Limits are for people's work, and are no hurry: an interrupted run goes on."""
JOIN_S = 3600.0
SETTLE_S = 900.0

PROFILE = "cfy profiles use {leader_address} -u {username} -p PASSWORD -t {tenant}"

JOIN = (
    "cfy cluster join --cluster-host-ip {address} --cluster-node-name {node}"
    " {leader_address}"
)

LOOK = Step(
    "look",
    Kind.CHECK,
    "See what stands",
    both(
        "Every manager is asked for its version, whether it is active and whom it"
        " lists as its cluster; the agent is asked for roles, positions and verdicts."
    ),
    act="look",
)

SAVE_CERTIFICATES = Step(
    "save-certificates",
    Kind.DO,
    "Save this machine's certificates",
    both(
        "The folders {certificates} of this machine go into"
        " {to}/{me}-certificates.tar, with owner and mode, encrypted (.age) for the"
        " recipients of [capture]; it is read back. Nothing there is overwritten."
    ),
    act="save-certificates",
    changes=True,
)

_TAR = (
    "tar --numeric-owner -C / -cf {node}-certificates.tar {certificates_below_root}",
)


def certificates_of(each: Each) -> tuple[Step, ...]:
    """Return the steps that save the certificates of other machines."""
    return (
        Step(
            "save-other-certificates",
            Kind.SAY,
            "Save the certificates of {node}",
            both(
                "On the machine of {node}, as root; then bring the file to"
                " {to}/{node}-certificates.tar on this machine. {whose_folders} The"
                " agents of deployed hosts trust these certificates only: a manager"
                " with others reaches none of them."
            ),
            commands=lines(*_TAR),
            each=each,
        ),
        Step(
            "certificates-saved",
            Kind.CHECK,
            "The certificates of {node} are saved",
            both(
                "The file is there and can be read as an archive. A machine that is off"
                " may come up again, so it is waited for; --lost {node} says that it is"
                " gone: then its certificates are not saved."
            ),
            act="certificates-saved",
            each=each,
            wait_s=JOIN_S,
        ),
    )


def destroy(each: Each) -> tuple[Step, ...]:
    """Return the steps that take a manager away."""
    return (
        Step(
            "teardown",
            Kind.SAY,
            "Tear down the manager on {node}",
            Words(
                "On the machine of {node}, as root; or delete its virtual machine.",
                "On the machine of {node}, as root; or delete its virtual machine."
                " Where database or broker stand on machines of their own and are to go"
                " too, run it there as well, the managers first.",
            ),
            commands=Lines(("cfy_manager remove -f",), ("cfy_manager remove",)),
            each=each,
        ),
        Step(
            "torn-down",
            Kind.CHECK,
            "The manager on {node} is gone",
            both("It answers no more, or a fresh and empty one answers in its place."),
            act="torn-down",
            each=each,
            wait_s=INSTALL_S,
        ),
    )


def install(each: Each) -> tuple[Step, ...]:
    """Return the steps that install a fresh manager."""
    return (
        Step(
            "install",
            Kind.SAY,
            "Install a fresh manager on {node}",
            Words(
                "A machine with the same address and the product's package of the same"
                " version. {its_certificates} Name the files in"
                " /etc/cloudify/config.yaml (with F5: /home/admin/config.yaml), with"
                " manager.private_ip {address}; leave the section `cluster` out: it"
                " joins later. Then, as root:",
                "A machine with the same address and the product's package of the same"
                " version. {its_certificates} Name the files in"
                " /etc/cloudify/config.yaml (with F5: /home/admin/config.yaml), with"
                " manager.private_ip {address} and the sections postgresql_server or"
                " postgresql_client and rabbitmq of the cluster: it joins by them."
                " Databases and brokers that were torn down are installed first, the"
                " same way. Then, as root:",
            ),
            commands=lines("cfy_manager install"),
            each=each,
        ),
        Step(
            "installed",
            Kind.CHECK,
            "A fresh manager answers on {node}",
            Words(
                "It takes the configured login, is of the expected version, belongs to"
                " no cluster yet and holds no deployment: only an empty one may join.",
                "It takes the configured login and is of the expected version.",
            ),
            act="installed",
            each=each,
            wait_s=INSTALL_S,
        ),
    )


def join(each: Each) -> tuple[Step, ...]:
    """Return the steps that make a fresh manager a member."""
    return (
        Step(
            "join",
            Kind.SAY,
            "Join {node} to the cluster of {leader}",
            Words(
                "Where you use cfy. Its database is replaced by a copy of {leader}'s."
                " Afterwards every user of cfy runs `cfy cluster update-profile`.",
            ),
            commands=Lines(
                (
                    PROFILE,
                    "cfy profiles use {address} -u {username} -p PASSWORD -t {tenant}",
                    JOIN,
                )
            ),
            each=each,
        ),
        Step(
            "joined",
            Kind.CHECK,
            "{node} is a member, and well",
            Words(
                "The active manager lists it as online, and its PostgreSQL streams.",
                "The cluster's status lists it as OK.",
            ),
            act="joined",
            each=each,
            wait_s=JOIN_S,
        ),
    )


HEALTHY = Step(
    "healthy",
    Kind.CHECK,
    "The cluster is healthy",
    Words(
        "One manager is active and lists every other as online; one PostgreSQL takes"
        " writes and all others stream from it; no agent has a trouble that lasts. What"
        " is not so is said by name, and so is each incident that is still open or that"
        " nobody has taken.",
        "Every manager answers and the cluster's status is OK; one PostgreSQL takes"
        " writes and all others stream; no agent has a trouble that lasts. What is not"
        " so is said by name, and so is each incident that is still open or that nobody"
        " has taken.",
    ),
    act="healthy",
    wait_s=SETTLE_S,
)
