"""Threads that compute beside those that answer, and give way to them."""

import os
import sys
from contextlib import suppress

# More than the process. Not much more: such a thread may hold Python's lock while another program has the core, and
# then those that answer wait for both (docs/benchmarks.md).
NICE = 5


def give_way() -> None:
    """Lets the process's other threads have the core first; so it is with threads that this one starts from then on.

    Only Linux has priorities of threads, and what confines a service may forbid it to set them.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE))
