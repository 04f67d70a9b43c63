"""A service of one artifact that is asked over HTTP, in closed and open loops, and timed from outside."""

import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adopted.load import ClosedLoop
from benchmarks.capacity.costs import Served
from benchmarks.serving.open_loop import OpenLoop, http_request, poisson_schedule
from benchmarks.serving.processes import SERVICE_CORE, Process
from benchmarks.serving.servers import ROOT, WORK
from runtime.artifact import read_artifact
from service.sockets import listen

PORT, CLIENTS = 18460, 32
PATHS = {"classification": "/predict", "embedding": "/embed"}
RAMP = 1.0  # seconds of an open load before it is measured: its connections are opened, its queue is filled
TOLD = 0.5  # seconds after which a service has counted what all its workers ran
SHORT = 0.3  # seconds of a trial run, which says how many requests fill a real one
REQUESTS = 512  # different ones


class Service:
    """A service that runs, of so many workers with one thread each.

    Attributes:
        start: seconds from exec to the first answer.
        response_bytes: of an answer with its headers, on average, once it was asked.
    """

    def __init__(self, process: Process, model: Path, texts: list[str], rows: int, workers: int) -> None:
        manifest = read_artifact(model).manifest
        self.process, self.rows, self.workers = process, rows, workers
        self.path, self.stats = PATHS[manifest.task], f"/v2/models/{manifest.name}/stats"
        rounds = cycle(texts)
        bodies = [json.dumps({"inputs": list(islice(rounds, rows))}) for _ in range(REQUESTS)]
        self.requests = [http_request(PORT, self.path, body) for body in bodies]
        self.request_bytes = float(np.mean([len(request) for request in self.requests]))
        self.response_bytes = 0.0
        self.start = process.wait_for_answer(PORT, self.path, bodies[0])

    def ask(self, requests: int, clients: int) -> tuple[float, list[float]]:
        """Clients that wait for each answer: requests a second, and the latencies in seconds.

        Raises:
            SystemExit: one was not answered with 200.
        """
        answers = ClosedLoop(PORT, list(islice(cycle(self.requests), max(requests, clients))), clients).run()
        if bad := [answer for answer in answers if answer.status != 200]:
            raise SystemExit(f"A request was answered with status {bad[0].status} and {bad[0].response[-300:]!r}.")
        self.response_bytes = float(np.mean([len(answer.response) for answer in answers]))
        seconds = max(answer.received for answer in answers) - min(answer.sent for answer in answers)
        return len(answers) / seconds, [answer.received - answer.sent for answer in answers]

    def closed_loop(self, seconds: float, clients: int = CLIENTS) -> Served:
        """What so many clients get for each worker, together."""
        clients *= self.workers
        trial, _ = self.ask(CLIENTS * 8, clients)
        requests = int(seconds * self.ask(int(SHORT * trial), clients)[0])
        before = self.counts()
        rate, latencies = self.ask(requests, clients)
        cpu, batches = (now - then for now, then in zip(self.counts(), before, strict=True))
        p50, p99 = np.percentile(latencies, [50, 99]).tolist()
        return Served(self.workers, self.rows, 1.0, rate, rate, p50, p99, cpu / requests, requests / batches)

    def alone(self, seconds: float) -> float:
        """Median latency of one client, in seconds."""
        rate, _ = self.ask(32, 1)
        return float(np.median(self.ask(int(seconds * rate), 1)[1]))

    def open_load(self, load: float, rate: float, seconds: float, seed: int = 0, rest: float = 0.0) -> Served:
        """Poisson arrivals at so many requests a second.

        Args:
            load: what share of the capacity that is.
            rest: seconds that the generator sleeps where it has no core of its own.
        """
        due = poisson_schedule(rate, seconds + RAMP, np.random.default_rng(seed))
        before, started, own = self.counts(), time.perf_counter(), time.process_time()
        answers = OpenLoop(PORT, self.requests, due, rest=rest).run()
        generator = (time.process_time() - own) / (time.perf_counter() - started)
        cpu, batches = (now - then for now, then in zip(self.counts(), before, strict=True))
        counted = answers.after(RAMP)
        p50, p99 = np.percentile(counted.latency(200), [50, 99]).tolist()
        late = float(np.nanpercentile(counted.sent - counted.due, 99))
        answered = counted.share(200) * len(counted.due) / seconds
        return Served(
            self.workers, self.rows, load, rate, answered, p50, p99, cpu / len(due), len(due) / batches, late, generator
        )

    def counts(self) -> tuple[float, float]:
        """CPU seconds of all its processes so far, and batches that it ran."""
        cpu = self.process.cpu_seconds()
        time.sleep(TOLD)
        found = get(PORT, self.stats)["model_stats"][0]
        return cpu, float(found["execution_count"])


def get(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@contextmanager
def serving(
    model: Path, texts: list[str], rows: int, workers: int, cores: str = str(SERVICE_CORE)
) -> Iterator[Service]:
    """The service on these cores, while it is needed; what it prints goes to a log below .bench/."""
    WORK.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADDNORM_")}
    options = {"model": model.resolve(), "port": PORT, "workers": workers, "threads": 1, "device": "cpu"}
    command = ["taskset", "-c", cores, sys.executable, "-m", "addnorm", "serve"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    listen("127.0.0.1", PORT).close()  # what a server that is left over answers would be measured
    process = Process(command, kept | {"PYTHONPATH": str(ROOT)}, WORK / f"capacity-{workers}.log")
    try:
        yield Service(process, model, texts, rows, workers)
    finally:
        process.stop()
