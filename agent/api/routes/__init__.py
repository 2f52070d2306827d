"""The routes, one file per part of the surface; each offers one `router`.

Theory of operation. A route checks who asks (a dependency from `agent.api.access`),
asks the desk or the shelf, and returns a model. What it says is worded in `present`;
whether it may be done is decided by the core when the event is submitted.
"""
