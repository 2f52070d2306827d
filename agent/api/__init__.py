"""The HTTP surface: what people, load balancers, peers and shims may ask an agent.

`app.make_app` puts the parts together; `present` turns the state of the core into the
answers and is shared with the command line; `access` is the one place that says who may
ask what; `problems` is the one place that words a refusal. Nothing here decides about
the cluster and nothing over HTTP writes a data folder.
"""

import sys

# FastAPI would load the first edition of pydantic, only to see that no model is of it.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type] # says: not there
