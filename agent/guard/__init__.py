"""The gate in front of a resync, and how HA software is led through it.

`shim` writes the stand-in for pg_rewind, a shell script that waits for a permit and
then becomes the real program. It reads an installed one back, too. Nothing in here
decides whether a resync may go on: the core does, and the agent tells.
"""
