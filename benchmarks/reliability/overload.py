"""Overload: more requests than the service can answer, over hundreds or thousands of connections.

The service gets a fixed quota of CPU time (a control group; Linux as root), so that the load generator and other work
on the machine change less of what it can answer. Capacity is measured in each round, before and after: what 32 clients
get that wait for their answers.
"""

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from benchmarks.reliability.service import Service, serving
from benchmarks.serving.open_loop import Answers, OpenLoop, http_request, poisson_schedule

PERIOD = 0.01  # seconds in which the quota is used up, or not
QUOTA = 0.3  # of a core
TEXTS = ["what is my account balance", "book a flight to paris", "how do i change my pin", "play some jazz"]
OPENING = 2.0  # seconds that are not counted
COUNTED = 10.0  # seconds, in the first of which connections are still opened
CALM = 3.0  # seconds after which the service forgets an overload
CLIENTS = 32
CASES = [(2, 200), (2, 1000), (2, 8000), (5, 200), (5, 1000), (5, 8000)]  # times the capacity, connections
BARS = {2: (90, 70), 5: (60, 40)}  # least median and least of all, in % of the capacity


@contextmanager
def quota(service: Service, share: float = QUOTA) -> Iterator[bool]:
    """Gives a service and its workers `share` of a core, and says whether that was possible."""
    legacy = Path("/sys/fs/cgroup/cpu")  # version 1
    parent = legacy if legacy.is_dir() else Path("/sys/fs/cgroup")
    group, limited = parent / f"addnorm-{os.getpid()}", True
    period, most = round(1e6 * PERIOD), round(1e6 * PERIOD * share)
    limits = {"cpu.max": f"{most} {period}"}
    if parent == legacy:
        limits = {"cpu.cfs_period_us": f"{period}", "cpu.cfs_quota_us": f"{most}"}
    try:
        group.mkdir()
        for name, value in limits.items():
            (group / name).write_text(value)
        move([service.process.pid, *service.workers], group)
    except OSError:  # not root, no such controller, or not Linux
        limited = False
    try:
        yield limited
    finally:
        with suppress(OSError):
            move(map(int, (group / "cgroup.procs").read_text().split()), parent)
            group.rmdir()


def move(pids: Iterable[int], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended
            (group / "cgroup.procs").write_text(str(pid))


def requests(service: Service) -> list[bytes]:
    """TEXTS, each as a prediction's request."""
    return [http_request(service.port, "/predict", json.dumps({"inputs": text})) for text in TEXTS]


def capacity(service: Service, seconds: float = 2.0) -> float:
    """Texts per second of CLIENTS that wait for their answers."""
    time.sleep(CALM)
    always = np.zeros(200_000)
    answers = OpenLoop(service.port, requests(service), always, CLIENTS, patience=seconds).run()
    return answered_rate(answers, 0.3 * seconds, seconds)


def overloaded(service: Service, rate: float, connections: int, seed: int) -> float:
    """Texts per second that are answered where `rate` are asked for."""
    due = poisson_schedule(rate, OPENING + COUNTED, np.random.default_rng(seed))
    answers = OpenLoop(service.port, requests(service), due, connections, patience=2.0).run()
    return answered_rate(answers, OPENING, OPENING + COUNTED)


def answered_rate(answers: Answers, start: float, stop: float) -> float:
    """Answers with status 200 that came from `start` to `stop` (seconds), per second."""
    at = answers.answered[answers.status == 200]
    return float(((at >= start) & (at < stop)).sum() / (stop - start))


def overload(rounds: int = 5) -> Counter[str]:
    """Offers more than can be answered: most of the capacity is to be answered still, whatever is refused."""
    found, shares, recovered = Counter[str](), dict[tuple[int, int], list[int]](), list[float]()
    with serving("--workers", "1") as service, quota(service) as limited:
        found["without a quota"] = int(not limited)
        for seed in range(rounds):
            for times, connections in CASES:
                before = capacity(service)
                answered = overloaded(service, times * before, connections, seed)
                after = capacity(service)
                recovered.append(after / before)
                shares.setdefault((times, connections), []).append(round(200 * answered / (before + after)))
        found["left in flight"] = service.settle()
        found["tracebacks"] = service.tracebacks
    found["capacity after, median % of before"] = round(100 * statistics.median(recovered))
    found["capacity after, least % of before"] = round(100 * min(recovered))
    found.update(judge(shares))
    return found


def judge(shares: dict[tuple[int, int], list[int]]) -> Counter[str]:
    """Medians and least of each case's shares of the capacity (%), and how many cases are below their bar."""
    found = Counter[str]()
    for (times, connections), values in shares.items():
        name, median = f"{times}x over {connections}", round(statistics.median(values))
        found[f"{name}, median %"], found[f"{name}, least %"] = median, min(values)
        least_median, least = BARS[times]
        found["goodput too low"] += median < least_median or min(values) < least
    return found
