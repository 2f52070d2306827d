"""The pure core: what is so, what to do about it, and why.

Theory of operation. The shell turns the world into events; `machine.step` takes
the state, one event and the policy, and returns the next state and the actions
to carry out. Nothing in here does I/O, reads a clock, draws a random number,
logs, or waits. The same inputs give the same outputs, on a production machine,
in the simulator and in a replayed journal.
"""
