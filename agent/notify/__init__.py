"""Telling: from a notice that the core decided to a receiver that has it.

Theory of operation. `body` renders the message when the notice is decided, so that
a retry a day later still says what was true then; `routing` says which channels
get it; both go into the journal in the transaction of the incident. `outbox` takes
due messages from there and hands them to their channels until each was taken or
given up; `webhook` is a channel, `signing` proves to a receiver who has sent it. A
message may arrive twice, always with the same id, and never after a newer one of
its incident.
"""
