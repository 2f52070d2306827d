"""Whole cluster down, or working wrongly: all managers are made anew.

Theory of operation. The guide joins first and restores then. A manager of 4.x refuses
a restore as soon as its cluster has a second node, so here the one that will lead is
restored alone and the others join it, empty. From 5.0.5 on all managers share one
database: they are installed, set into maintenance mode, and restored once.
"""

from agent.vnfm.recovery import parts
from agent.vnfm.recovery.model import Each, Kind, Lines, Scenario, Step, Words, both

_WANTED = Step(
    "wanted",
    Kind.CHECK,
    "Something speaks for tearing all of it down",
    both(
        "A manager does not answer, or the cluster is not well. Where every manager"
        " answers and the agent says healthy, this goes no further unless"
        " --though-healthy is given; --yes does not stand for that."
    ),
    act="wanted",
)

_SNAPSHOT = Step(
    "snapshot",
    Kind.DO,
    "Find the newest snapshot of a manager that was checked, and put it into {to}",
    both(
        "Looked for on this machine's shelf and beside the other agents. If a manager"
        " still answers as active it is asked to make one more first, unless --snapshot"
        " names one. The archive is opened and read to its end before anything is torn"
        " down; it holds secrets, and lies there in plain, closed to other users."
    ),
    act="snapshot",
    changes=True,
)

_MAINTENANCE_ON = Step(
    "maintenance-on",
    Kind.DO,
    "Set the managers into maintenance mode",
    Words(new="So that nobody writes during the restore. Waited for until it is so."),
    act="maintenance-on",
    changes=True,
)

_UPLOAD = Step(
    "upload",
    Kind.DO,
    "Upload the snapshot to {leader}",
    Words(
        "The archive goes to {leader}, which stands alone: a cluster with a second node"
        " refuses a restore. One that is there already under this id is used, never"
        " overwritten.",
        "The archive goes to {leader}. One that is there already under this id is used,"
        " never overwritten.",
    ),
    act="upload",
    changes=True,
)

_RESTORE = Step(
    "restore",
    Kind.DO,
    "Restore it on {leader}",
    Words(
        "A restore replaces all that the manager holds; one that is not empty refuses"
        " unless --force was given. It is waited for by its execution.",
        "A snapshot in the format up to 6.4 (legacy) replaces all that the manager"
        " holds, and is refused by one that is not empty unless --force was given; one"
        " in the new format is added to what is there. It is waited for by its"
        " execution.",
    ),
    act="restore",
    changes=True,
)

_RESTORED = Step(
    "restored",
    Kind.CHECK,
    "What the snapshot holds is there",
    both(
        "{leader} is asked for its blueprints, deployments and plugins of all tenants;"
        " the numbers are held against those of the archive."
    ),
    act="restored",
    wait_s=parts.SETTLE_S,
)

_MAINTENANCE_OFF = Step(
    "maintenance-off",
    Kind.DO,
    "End the maintenance mode",
    Words(new="The managers take work again, and can be asked what they hold."),
    act="maintenance-off",
    changes=True,
)

_START = Step(
    "start-cluster",
    Kind.SAY,
    "Start the cluster on {leader}",
    Words("Where you use cfy; {leader} holds the data that the others will copy."),
    commands=Lines((parts.PROFILE, "cfy cluster start --cluster-node-name {leader}")),
)

_STARTED = Step(
    "started",
    Kind.CHECK,
    "{leader} leads a cluster",
    Words("It is active and lists itself as the leader."),
    act="started",
    wait_s=parts.JOIN_S,
)

WHOLE_CLUSTER = Scenario(
    "whole-cluster",
    "Whole cluster down or working incorrectly",
    "All managers are torn down and made anew with their old certificates, and the"
    " newest checked snapshot is restored. Run it on a machine that is not torn down,"
    " such as a witness or an operator's: whatever is kept goes to --to, which must"
    " outlive the managers' machines. What was written after the snapshot and is in no"
    " other copy is lost: while PostgreSQL still runs anywhere, take a capture of it"
    " first (`splitguard snapshots create`).",
    (
        "Save /home/admin/files/ssl/* files. Save /etc/cloudify/ssl/* files.",
        "Teardown managers.",
        "Install fresh managers with existing certificates in /home/admin/config.yaml.",
        "Create and join cluster.",
        "Apply latest working version snapshot on active manager.",
    ),
    (
        parts.LOOK,
        _WANTED,
        parts.SAVE_CERTIFICATES,
        _SNAPSHOT,  # before people are waited for: managers may die one by one
        *parts.certificates_of(Each.ELSEWHERE),
        *parts.destroy(Each.MANAGERS),
        *parts.install(Each.MANAGERS),
        _MAINTENANCE_ON,
        _UPLOAD,
        _RESTORE,
        _MAINTENANCE_OFF,
        _RESTORED,
        _START,
        _STARTED,
        *parts.join(Each.OTHERS),
        parts.HEALTHY,
    ),
    options="--to /mnt/safe",
)
