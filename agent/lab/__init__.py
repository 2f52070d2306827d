"""The lab: a whole cluster on one machine, with faults on demand.

Theory of operation. A supervisor process owns the network between the nodes (TCP
relays that can be cut), the receiver of webhooks and a control socket. It starts
one machine process per node, which stands for that host: it runs the stand-in
manager, one real PostgreSQL server and one real agent (`splitguard run`), and dies
with all of them. Everything is on loopback, in one state folder, with free ports
and passwords drawn for the occasion; nothing of it survives the supervisor. The
stories drive such a cluster through a trouble and count what came of it.
`membership` says which managers belong together; `hands` does what only a person does
in the field: take a manager off a machine, install one, join it, let another one lead.
"""
