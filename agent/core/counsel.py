"""What each verdict means, and what to do about it.

Theory of operation. Two tables with one entry for each verdict. A meaning is one
sentence that holds wherever the verdict stands; the README prints the same. A next step
is an act or a command; what stands in braces is filled in from the verdict's evidence
by `explain`, and reads as unknown where the evidence does not say. `status` shows these
steps, so none of them says to run it; and whatever forbids a resync names the way by
which one is allowed.
"""

from agent.core.verdict import VerdictCode

MEANINGS = {
    VerdictCode.HEALTHY: "Everything is known and nothing is wrong.",
    VerdictCode.UNKNOWN: "Not enough fresh observation to say how the cluster is.",
    VerdictCode.OBSERVER_ISOLATED: (
        "This agent sees no majority of the voters; it accuses nobody."
    ),
    VerdictCode.NODE_SUSPECT: "A node missed probes; it is too early to say more.",
    VerdictCode.NODE_UNREACHABLE: (
        "Nobody who can be heard sees the node, but no majority can confirm it."
    ),
    VerdictCode.NODE_DOWN: "A majority of all voters sees the node on no channel.",
    VerdictCode.AGENT_DOWN: "The agent is silent; the node answers on other channels.",
    VerdictCode.POSTGRES_DOWN: (
        "PostgreSQL is silent; the node answers on other channels."
    ),
    VerdictCode.MANAGER_DOWN: (
        "The manager is silent; the node answers on other channels."
    ),
    VerdictCode.LINK_DOWN: "A pair of nodes cannot see each other; others see both.",
    VerdictCode.FAILOVER: "The primary moved to another node.",
    VerdictCode.NO_PRIMARY: "No node that a majority can see accepts writes.",
    VerdictCode.STALE_PRIMARY: (
        "The primary lacks writes that its own past was seen to hold."
    ),
    VerdictCode.WRITES_BLOCKED: "Commits wait for a synchronous standby.",
    VerdictCode.SPLIT_BRAIN_SUSPECTED: (
        "A node accepts writes, cut off from a side that has, or may elect, another."
    ),
    VerdictCode.SPLIT_BRAIN: "Two nodes accepted writes at once; this is proven.",
    VerdictCode.LINEAGE_DIVERGED: (
        "A node holds writes that the primary does not have; a resync destroys them."
    ),
    VerdictCode.LINEAGE_TWIN: (
        "One timeline number stands for two histories; PostgreSQL and pg_rewind see "
        "nothing wrong."
    ),
    VerdictCode.UNPROTECTED: "A losing side exists, and no copy of it is being made.",
    VerdictCode.CAPTURE_NOT_READY: (
        "The next split could not be captured here, its resync not be held back, or "
        "the manager's snapshots not be relied on."
    ),
    VerdictCode.DESTRUCTIVE_CONFIG: (
        "HA software is set to delete a losing side's data, with no guard in front."
    ),
    VerdictCode.FOREIGN_SYSTEM: "What answers there belongs to another system.",
    VerdictCode.STANDBY_DETACHED: "A standby receives from nobody.",
    VerdictCode.STANDBY_LAGGING: (
        "A standby has received, or replayed, much less than the primary has written."
    ),
    VerdictCode.ARCHIVE_CONFLICT: (
        "Both sides of a fork archive their WAL by one and the same setting."
    ),
    VerdictCode.CONFIG_ERROR: "The configuration does not fit the machines.",
    VerdictCode.CONFIG_DRIFT: (
        "Settings that must be the same on all nodes differ; agents may judge unlike."
    ),
    VerdictCode.ROLE_MISMATCH: (
        "A manager says that it is active beside a standby, or beside another active "
        "one."
    ),
    VerdictCode.CANNOT_ALERT: (
        "A receiver of notices does not take them; what is wrong is not told there."
    ),
}

STRANGERS = 851
"""The row of `config-error` that is about agents which refuse each other."""
NO_USE = 855
"""The row of `config-error` that is about agents which do not understand each other."""
PRIMARY_SHUT, OTHER_SHUT = 857, 859
"""Its rows that are about servers which let no agent in."""
PIN_LEFT = 607
"""The row of `unprotected` that is about a server which is gone already."""
LATE_REPLAY = 809
"""The row of `standby-lagging` that is about replay alone."""
TWO_ACTIVE = 873
"""The row of `role-mismatch` that is about two managers which say they are active."""
MANAGER_KEPT = 881
"""The row of `capture-not-ready` that is about the manager's snapshots."""
STEPS_OF_ROWS = {
    TWO_ACTIVE: (
        "Stop clients from writing through either of them, and keep what both hold: run"
        " `splitguard vnfm snapshots create --wait --manager {subject}`, and the same"
        " for {rivals}."
        " When the managers see each other again the one with the newest database stays"
        " active (`splitguard winner show`), and what the other one took is lost there."
    ),
    LATE_REPLAY: (
        "What {subject} has received is safe on it, but its readers see old rows and a"
        " promotion takes longer. If somebody has paused replay there, run `SELECT"
        " pg_wal_replay_resume()` (not if its log says that a setting is too small:"
        " raise that first); else look for long queries in pg_stat_activity, and at its"
        " disks."
    ),
    PIN_LEFT: (
        "Copy {place} to where there is room (cp -a), start a server on that copy and"
        " see what it holds; the WAL is in snapshot {capture}. Then run `splitguard"
        " snapshots delete {capture} --reason TEXT`, which removes the links too."
    ),
    STRANGERS: (
        "Put the same peer token file (auth.peer_token_file) on {pair}; `sha256sum` of"
        " it tells whether it is. Then run `systemctl reload splitguard` on both. Until"
        " then neither hears what the other sees, and less can be confirmed."
    ),
    NO_USE: (
        "Run `splitguard --version` on {pair} and install the newer one on both, one"
        " node after the other. Where the reason names no version, see under [[nodes]]"
        " whether the `agent` address leads to an agent of this cluster, and what"
        " `journalctl -u splitguard` says there. Until then neither hears what the"
        " other sees, and less can be confirmed."
    ),
    PRIMARY_SHUT: (
        "Mend what the reason names; a split would not be seen until then. Where it is"
        " connections, its clients are short of them too: look into pg_stat_activity on"
        " {subject} through the local socket."
    ),
    OTHER_SHUT: (
        "Mend what the reason names; until then nobody can say whether {subject}"
        " accepts writes. `splitguard grants` prints the roles and pg_hba lines that"
        " agents need."
    ),
}
"""Where a row needs another next step than its verdict."""

NEXT_STEPS = {
    VerdictCode.HEALTHY: "Nothing to do.",
    VerdictCode.UNKNOWN: (
        "Wait for a few rounds. If it lasts, look at what was not seen: does its "
        "agent run (`systemctl status splitguard` there), do its addresses under "
        "[[nodes]] lead there, does its PostgreSQL let the probe in (`splitguard "
        "grants` prints roles and pg_hba lines)?"
    ),
    VerdictCode.OBSERVER_ISOLATED: (
        "Check the network of {subject}. If its server accepts writes, stop its "
        "clients. Resync it only in a way that waits until it is kept: {way_back}."
    ),
    VerdictCode.NODE_SUSPECT: "Wait; check the network of {subject} if it lasts.",
    VerdictCode.NODE_UNREACHABLE: (
        "Look at {subject} itself: from here nobody can tell whether it is down or cut "
        "off. Do not promote another node before you know."
    ),
    VerdictCode.NODE_DOWN: (
        "Look at {subject}: its power, its console, its network. Before it comes back, "
        "find out whether the primary has moved: if {subject} is only cut off, it may "
        "still accept writes."
    ),
    VerdictCode.AGENT_DOWN: "Run `systemctl restart splitguard` on {subject}.",
    VerdictCode.POSTGRES_DOWN: (
        "Is {subject} a losing side of a split? Then leave it stopped and bring it "
        "back in a way that waits until it is kept: {way_back}. Otherwise read "
        "PostgreSQL's log on {subject} and start it through the HA software."
    ),
    VerdictCode.MANAGER_DOWN: (
        "Run `cfy_manager status` on {subject}, read the logs below /var/log/cloudify "
        "there and run `cfy_manager restart`."
    ),
    VerdictCode.LINK_DOWN: "Check the network and the firewalls between {pair}.",
    VerdictCode.FAILOVER: (
        "Check that the clients follow to {to}, then run `splitguard incidents ack "
        "{incident}`. Do not resync {from} by hand: the way that waits until its "
        "writes are kept is {way_back}."
    ),
    VerdictCode.NO_PRIMARY: (
        "Let the HA software promote {furthest}; a server that is down may have "
        "received more, so look at that one first. Without HA software: `pg_ctl "
        "promote` there, once you are sure that no other server accepts writes."
    ),
    VerdictCode.STALE_PRIMARY: (
        "Was {subject} set back or restored on purpose? Then `splitguard incidents ack "
        "{incident}` says that what it holds now is the truth. Otherwise stop its "
        "clients, and keep what is missing before anything is made anew: `splitguard "
        "snapshots create` on {held_by}."
    ),
    VerdictCode.WRITES_BLOCKED: (
        "Look on {subject} which standby of synchronous_standby_names is not in "
        "pg_stat_replication; connected now: {connected}. One that is held before its "
        "resync goes on by itself once its copy is complete; `splitguard guard "
        "status` there says how long that takes."
    ),
    VerdictCode.SPLIT_BRAIN_SUSPECTED: (
        "Find out whether another node was promoted. Stop clients from writing to "
        "{first} until the link is back. Which side is to be kept shows then; resync "
        "only the other one: {way_back}."
    ),
    VerdictCode.SPLIT_BRAIN: (
        "Decide which side is kept: `splitguard winner pin NODE --reason TEXT`. Stop "
        "clients from writing to the other one. Then bring that one back in the way "
        "that waits until it is kept: {way_back}."
    ),
    VerdictCode.LINEAGE_DIVERGED: (
        "Do not resync {losers} by hand: the way that waits until what it holds is "
        "kept is {way_back}. `splitguard snapshots list` shows what is kept so far."
    ),
    VerdictCode.LINEAGE_TWIN: (
        "Do not start {losers} as a standby, it would stream and keep its own rows; "
        "and pg_rewind sees nothing to take back. Clone it: `splitguard resync` does "
        "that where no HA software runs; else let the HA software make the node anew, "
        "once `splitguard guard permit` there says granted."
    ),
    VerdictCode.UNPROTECTED: (
        "Mend the reason, then run `splitguard snapshots create` on {subject}. When "
        "that is complete its resync may go on: {way_back}. To give its writes up: "
        "`splitguard guard release {subject} --reason TEXT`."
    ),
    VerdictCode.CAPTURE_NOT_READY: "On {subject}: {hint}",
    VerdictCode.DESTRUCTIVE_CONFIG: (
        "On {subject}: switch {settings} off (`patronictl edit-config`, and in {file}),"
        " or put the guard in front: `splitguard guard install` prints what to change."
        " `splitguard guard check` says what is still missing."
    ),
    VerdictCode.FOREIGN_SYSTEM: (
        "Check the address of {subject} in the configuration, and which data folder "
        "its server runs on."
    ),
    VerdictCode.STANDBY_LAGGING: (
        "A promotion of {subject} would cost what it has not received: let another "
        "standby be the first choice. Look at the network between {primary} and "
        "{subject}, at the disks of {subject}, and at its row of pg_stat_replication "
        "on {primary}."
    ),
    VerdictCode.ARCHIVE_CONFLICT: (
        "On the side that is not to be kept, set `archive_command = '/bin/false'` and "
        "reload: its WAL then stays in pg_wal. If the setting leads both to one place, "
        "set aside what that side archived past {fork_lsn}, history files first: a "
        "restore from there may end on either side."
    ),
    VerdictCode.STANDBY_DETACHED: (
        "Check primary_conninfo and PostgreSQL's log on {subject}. Do not clone it anew"
        " before you know why: it may hold what the primary lacks, and `splitguard"
        " snapshots create` there keeps that."
    ),
    VerdictCode.CONFIG_ERROR: (
        "Correct the addresses of {pair} in the configuration; then run "
        "`splitguard config check`."
    ),
    VerdictCode.CONFIG_DRIFT: (
        "Compare {settings} in the configuration of {nodes}, put the same file on every"
        " node, and run `systemctl restart splitguard` where it has changed, one node"
        " after the other. Variables SPLITGUARD_… of the service count before the file."
    ),
    VerdictCode.ROLE_MISMATCH: (
        "Make the manager beside {primary} the active one (`cfy cluster set-active`),"
        " or let the HA software move the primary to {subject}. Do neither in a split"
        " or after a failover that is not understood."
    ),
    VerdictCode.CANNOT_ALERT: (
        "Mend {receivers}: address and secret under [[channels]], the way to it from"
        " {subject}, or the receiver itself. Then run `systemctl reload splitguard` on"
        " {subject}: what waits is tried again at once. Until then look at `splitguard"
        " incidents list` now and then."
    ),
}
PLANNED_NEXT = (
    "Check that the clients follow to {to}; then end the announcement with "
    "`splitguard maintenance end`."
)
"""The step after a failover that was announced."""
KEPT_IS_PINNED = (
    "{winner} is kept, as {pinned_by} has decided: stop clients from writing to "
    "{losers}. Then bring it back in the way that waits until it is kept: {way_back}."
)
"""The step in a split after somebody has said who is kept."""
PAGES_DIFFER = (
    "Do not re-clone {losers} before what they hold is kept and read: {first} may have "
    "been set back, and their rows be nowhere else. `splitguard snapshots list` shows "
    "what is kept so far. Decide which side has what matters. pg_rewind sees nothing "
    "to take back; a side that is given up comes back by {way_back}."
)
"""The step where pages of WAL differ on one timeline."""
PINS_EXCLUDE = (
    "Two pins exclude each other, settle which side is kept: "
    "`splitguard winner pin NODE --reason TEXT`. Stop clients from writing to the "
    "other one. Then bring that one back in the way that waits until it is kept: "
    "{way_back}."
)
WAY_BACK = (
    "`splitguard resync {node}` on {place} where no HA software runs, else the HA "
    "software's own resync, once `splitguard guard permit` there says granted"
)
"""How a loser comes back without losing what it wrote."""
IN_GENERAL = {
    "connected": "its senders",
    "file": "FILE",
    "held_by": "whoever received more",
    "first": "the side that is cut off",
    "from": "the former primary",
    "furthest": "the standby furthest ahead",
    "hint": (
        "mend what the verdict gives as its reason. `splitguard grants` prints what a"
        " copy needs of PostgreSQL, `splitguard guard check` what is missing before"
        " the guard, `splitguard vnfm status` how the manager fares."
    ),
    "losers": "LOSER",
    "nodes": "the nodes that it names",
    "pair": "NODE and NODE",
    "primary": "the primary",
    "receivers": "the receiver",
    "rivals": "the other one",
    "settings": "the settings that it names",
    "subject": "NODE",
    "to": "the new primary",
}
"""What stands for a piece of evidence where a step is told without a verdict."""
