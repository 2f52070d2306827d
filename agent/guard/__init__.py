"""The gate in front of a resync, and how HA software is led through it.

`shim` writes the scripts that stand in for pg_rewind and make replicas, `advice` tells
how HA software comes to use them, `wiring` and `visible` whether it does. Nothing in
here decides whether a resync may go on: the core does, and the agent tells. `resync`
and its parts bring a loser back where no HA software does. Why it is as it is stands in
DESIGN.md.
"""
