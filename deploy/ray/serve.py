"""AddNorm as a Ray Serve application, for clusters that are Ray's: `serve run deploy.ray.serve:app` in the repository.

Ray places the replicas, restarts them and routes to them; each answers everything that `addnorm serve` answers. Their
statistics come together in a store: set ADDNORM_STORE. All other settings are variables, too (docs/api.md). Ray's proxy
costs more than the answer of a small network (docs/scaling.md): use it for large requests, or where Ray runs anyway.
"""

import atexit
from contextlib import ExitStack

from ray import serve
from starlette.types import ASGIApp

from service.cpus import share_cpus
from service.fleet.host import check_exchange, courier_thread
from service.page.events import make_feed
from service.process import server_config
from service.repository.control import load_all
from service.settings import Settings
from service.telemetry.aggregator import Aggregator

REQUESTS = 256  # that a replica has at a time: Ray's default of 5 would keep batches from forming


def build() -> ASGIApp:
    """The application over the models that the settings name, with a courier beside it; called once in each replica."""
    settings = share_cpus(Settings(workers=1, allowed_hosts="*"))  # Ray's proxy is who asks
    check_exchange(settings)
    control, sink = load_all(settings), Aggregator().open()
    stack = ExitStack()
    stack.enter_context(courier_thread(settings, control.collectors))
    atexit.register(stack.close)
    config = server_config(settings, control.models, control, sink, make_feed(control.models, sink))
    application: ASGIApp = config.app  # type: ignore[assignment]
    return application


@serve.deployment(max_ongoing_requests=REQUESTS, ray_actor_options={"num_cpus": 1}, graceful_shutdown_timeout_s=35)
@serve.ingress(build)
class AddNorm:
    """One replica. The application does everything."""


app = AddNorm.bind()
