"""The managers of the cluster: what they are asked, and what is kept of them.

Theory of operation. `client` speaks the manager's REST API v3.1 as managers really
answer, in both generations: 4.x (one active manager, Consul) and 5.x and later (every
manager active, a database cluster of its own). `shelf` keeps the snapshots that were
fetched off a manager, `keeping` makes them; `recovery` holds the guide's four recovery
scenarios as data and the one runner that plays them. Nothing here decides who is
primary, and no password that was refused is tried twice.
"""
