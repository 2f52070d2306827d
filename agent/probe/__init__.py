"""Probes: one question to one channel of one node, and what came of it.

Theory of operation. Each node is asked on up to three channels, each on its own
connection and within its own deadline, so that nothing that hangs can delay
anything else. A probe never raises and never guesses: what comes back is one
`Observation`, the sight itself or a typed failure whose reason says what to do.
Connections are kept between rounds and never shared; every tenth round connects
afresh, because a server that takes no new connections still answers old ones. A
refusal proves that the far end runs and is told apart from silence.
"""
