"""Protective copies: taken, checked, listed, opened and handed out.

Theory of operation. One capture is one folder below the capture folder, and its
manifest is the only thing that makes it a snapshot: it is written aside, fsynced
and renamed, always after what it speaks of is on disk. `engine` runs captures in
threads: `tail` follows the WAL, `pin` keeps hard links, `copying` makes the full
copy. `catalogue`, `verify`, `opening` and `archive` work on the folders alone and
need no agent. Nothing here changes a byte of the server's own files.
"""
