"""The server's own programs and files, read by the agent that stands beside it.

Theory of operation. Everything here is local and blocking. `programs` finds and
runs what PostgreSQL ships, as the owner of the data directory; `control`,
`history`, `records` and `wal` read its files; `reader` puts them together into
the facts that travel in a report; `private` opens a scratch copy where nobody
else can reach it. Nothing in here writes into a live data directory, and every
failure is a PostgresError with a hint, never a bare OSError.
"""
