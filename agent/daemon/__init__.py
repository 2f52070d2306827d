"""The running agent: it moves events in and carries actions out.

Theory of operation. Probes, the disk reader, the capture engine, the outbox and
the HTTP API all turn what they learn into events on one queue. One consumer takes
them in order: it steps the core, commits what must not be forgotten, and then
carries the actions out. So there is one writer of the state and one place where
"persist, then act" is kept. Everything else here is clockwork around that queue:
the cadence that asks once a round, the outbox that delivers, the servers that
listen, and an orderly end.
"""
