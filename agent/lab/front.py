"""What a machine's manager answers on its port.

Theory of operation. The manager's own API is the stand-in's; `/lab/v1` beside it is
the lab's, and tells the managers what they have to know of each other.
"""

import asyncio

from starlette.types import ASGIApp

from agent.lab.deeds import Cluster
from agent.lab.manager import Manager
from agent.lab.manager_api import make_manager_app
from agent.lab.plan import TENANT
from agent.lab.sharing import sharing_routes
from agent.lab.standin.app import Standin, add_to, make_desk
from agent.lab.standin.cluster import cluster_routes, manager_routes
from agent.lab.standin.traits import Faults, Traits


def front(manager: Manager) -> tuple[ASGIApp, Standin]:
    """Return the application of one manager, and what is to be closed in the end.

    Called in the loop that it runs in.
    """
    plan = manager.plan
    faults = Faults()
    files = manager.layout.manager_files
    app = make_manager_app(manager, plan, faults, sharing_routes(files))
    office = Cluster(manager, asyncio.get_running_loop())
    traits = Traits(
        version=plan.options.manager,
        password=plan.secrets.manager,
        tenant=TENANT,
        open_status=True,
    )
    desk = make_desk(
        office,
        manager.database.connect,
        traits,
        files,
        faults,
    )
    routes = manager_routes if plan.options.all_active else cluster_routes
    return app, add_to(app, desk, routes(office))
