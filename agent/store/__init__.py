"""The journal: what an agent still knows after it was killed.

Theory of operation. The ledger is split into entries, one row each, and only what
changed since the commit before is written, together with the outbox rows of the
same step, in one durable transaction. What leaves the ledger stays in the journal
and is no longer loaded. Beside it, `flips` keeps every change of an incident, and
`rounds` what the agent saw, for export and replay. Two journals, one on SQLite and
one in memory, pass the same tests. `entries` splits and joins the ledger, `outbox`
says which message is due.
"""
