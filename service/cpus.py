"""How workers and threads share the CPUs that this process may use."""

from runtime.cpus import usable_cpus
from runtime.graph.providers import may_use_gpu
from service.settings import Settings

MOST_WORKERS = 8  # by default; beyond, the one process that counts for all would begin to matter


def share_cpus(settings: Settings, cpus: int | None = None) -> Settings:
    """The settings with `workers` and `threads` filled in: a worker per CPU, and the CPUs shared among them.

    Args:
        cpus: CPUs to share; those that this process may use where it is not given.
    """
    cpus = cpus or usable_cpus()
    # Several workers would keep several copies of the model on the GPU, and take turns there.
    workers = settings.workers or (1 if may_use_gpu(settings.device) else min(cpus, MOST_WORKERS))
    threads = settings.threads or max(1, cpus // workers)
    return settings.model_copy(update={"workers": workers, "threads": threads})
