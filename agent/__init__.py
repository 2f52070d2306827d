"""Splitguard: sees a PostgreSQL cluster split and keeps what a resync would destroy.

`core` decides and touches nothing; every other package reads the world for it, keeps
what it says, and carries out what it asks. DESIGN.md beside each package says how.
"""

__version__ = "0.1.0"
