"""The stand-in manager: a Cloudify manager's REST API over a real PostgreSQL.

Theory of operation. It answers as managers of 4.5.5 and 7.0.5 do, traps included, so
that what works against it works in the field. `app` takes a request through the same
gates in the same order, `routing` finds its route; `snapshots`, `executions`, `health`,
`upkeep` and `cluster` answer, `works` does what a manager's workers do, and `archives`
writes and reads both layouts of a snapshot. Snapshots, executions, tokens and the audit
log are rows of the database; archives are files in a folder.
What is left out: the row that each login writes (seen from outside: a database that
takes no writes still refuses it), the count of wrong passwords and the database's
password in rows (they are in memory), the files of blueprints and plugins (the lab's
objects have none), the reboot after certificates were restored (it is counted), the
workflows of deployments, and the audit log as a stream.
Source: the REST service of Cloudify Manager, 4.5.5 and 7.1, and what a 7.1 answered.
"""

from agent.lab.standin.traits import Alone, Connect, Faults, Office, Peer, Traits

__all__ = ["Alone", "Connect", "Faults", "Office", "Peer", "Traits"]
