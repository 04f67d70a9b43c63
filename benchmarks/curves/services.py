"""Requests over HTTP to services of many loaded models, and of several workers; memory, and seconds to start.

The load is a closed loop in one process: so many clients, each sending its next request once it has its answer.
"""

import http.client
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from benchmarks.adopted.load import ClosedLoop
from benchmarks.adopted.rounds import pss_bytes, rss_bytes
from benchmarks.capacity.measure import on_core
from benchmarks.curves.curve import Curve, Tell, growth_rows, number
from benchmarks.curves.networks import Shape, make_artifact, publish, text_of
from benchmarks.serving.open_loop import http_request
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE, Process
from benchmarks.serving.servers import ROOT, WORK
from service.sockets import listen

PORT, PATH, CLIENTS, LENGTH, TEXTS = 18520, "/predict", 32, 12, 256  # tokens of a text; different texts
COUNTS, WORKERS, ROWS = (1, 5, 20, 50), (1, 2, 4), 8  # models, workers; texts of a request to several workers
TRIAL, METRICS = 1_000, 5  # requests that warm a service up; times
SMALL, LARGER = Shape(2, 64), Shape(4, 128)


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop got.

    Attributes:
        rate: requests a second.
        p50: median latency in milliseconds.
        generator: share of a core that the load took.
    """

    rate: float
    p50: float
    generator: float


@dataclass(frozen=True, slots=True)
class Found:
    """A service of so many models. Attributes are in the order of the table's columns.

    Attributes:
        rate: requests a second, of a closed loop over all models in turn.
        cpu: microseconds of the service's CPU time a request.
        p50: median latency, milliseconds.
        start: seconds from exec to the first answer.
        rss, pss: resident memory of its processes in MB, and with their part only of what they share.
        metrics: milliseconds of GET /metrics.
        idle: CPU time while nobody asks, milliseconds a second.
    """

    rate: float
    cpu: float
    p50: float
    start: float
    rss: float
    pss: float
    metrics: float
    idle: float


TITLES = {
    "rate": "requests/s",
    "cpu": "CPU, µs a request",
    "p50": "p50, ms",
    "start": "start, s",
    "rss": "resident, MB",
    "pss": "PSS, MB",
    "metrics": "GET /metrics, ms",
    "idle": "idle, ms of CPU a second",
}


@contextmanager
def serving(models: Path, workers: int, cores: str, body: str) -> Iterator[tuple[Process, float]]:
    """A service of a model repository on these cores, and the seconds until it gave its first answer."""
    WORK.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADDNORM_")}
    options = {"models": models, "port": PORT, "workers": workers, "threads": 1, "device": "cpu"}
    command = ["taskset", "-c", cores, sys.executable, "-m", "addnorm", "serve"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    listen("127.0.0.1", PORT).close()  # what a server that is left over answers would be measured
    process = Process(command, kept | {"PYTHONPATH": str(ROOT)}, WORK / "curves.log")
    try:
        yield process, process.wait_for_answer(PORT, PATH, body)
    finally:
        process.stop()


def bodies(names: Sequence[str], rows: int) -> list[str]:
    """Requests of so many texts to each model in turn."""
    texts = cycle([text_of(LENGTH, seed) for seed in range(TEXTS)])
    count = -(-TEXTS // len(names)) * len(names)
    return [json.dumps({"inputs": list(islice(texts, rows)), "model": name}) for name in islice(cycle(names), count)]


def ask(requests: Sequence[bytes], count: int, clients: int) -> Load:
    """Sends so many of the requests, which begin anew at their end.

    Raises:
        SystemExit: one was not answered with 200.
    """
    own, started = time.process_time(), time.perf_counter()
    answers = ClosedLoop(PORT, list(islice(cycle(requests), count)), clients).run()
    generator = (time.process_time() - own) / (time.perf_counter() - started)
    if bad := [answer for answer in answers if answer.status != 200]:
        raise SystemExit(f"A request was answered with status {bad[0].status} and {bad[0].response[-300:]!r}.")
    seconds = max(answer.received for answer in answers) - min(answer.sent for answer in answers)
    p50 = median(answer.received - answer.sent for answer in answers)
    return Load(count / seconds, 1e3 * p50, generator)


def capacity(process: Process, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[Load, float]:
    """What the clients get for about so many seconds, and the service's CPU seconds a request; a trial warms it up."""
    trial = ask(requests, TRIAL, clients)
    count, before = max(TRIAL, int(seconds * trial.rate)), process.cpu_seconds()
    load = ask(requests, count, clients)
    return load, (process.cpu_seconds() - before) / count


def get_ms(path: str) -> float:
    """Milliseconds of a GET that is answered with 200."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    assert response.status == 200, f"{path} is answered with {response.status}"
    return 1e3 * (time.perf_counter() - started)


def idle_ms(process: Process, seconds: float) -> float:
    """CPU time that it takes while nobody asks, in milliseconds a second."""
    process.wait_until_quiet()
    before = process.cpu_seconds()
    time.sleep(seconds)
    return 1e3 * (process.cpu_seconds() - before) / seconds


def measure(models: Path, names: Sequence[str], seconds: float) -> Found:
    texts = bodies(names, 1)
    requests = [http_request(PORT, PATH, body) for body in texts]
    with serving(models, 1, str(SERVICE_CORE), texts[0]) as (process, start):
        load, cpu = capacity(process, requests, CLIENTS, seconds)
        pids = process.pids()
        rss, pss = rss_bytes(pids) / 1e6, pss_bytes(pids) / 1e6
        get_ms("/metrics")  # the first one imports Prometheus' library
        metrics = median(get_ms("/metrics") for _ in range(METRICS))
        return Found(load.rate, 1e6 * cpu, load.p50, start, rss, pss, metrics, idle_ms(process, seconds))


def models(counts: Sequence[int], seconds: float, tell: Tell) -> Curve:
    """The load has a core of its own."""
    artifact, found, names = make_artifact(SMALL), dict[int, Found](), list[str]()
    with tempfile.TemporaryDirectory() as folder, on_core(LOAD_CORE):
        for count in counts:
            tell(f"models: {count}")
            new = [f"model-{number:03}" for number in range(len(names), count)]
            for name in new:
                publish(artifact, Path(folder), name)
            names += new
            found[count] = measure(Path(folder), names, seconds)
    columns = [field.name for field in fields(Found)]
    lines = {TITLES[name]: {count: getattr(each, name) for count, each in found.items()} for name in columns}
    rows = [[f"{count}", *(number(getattr(each, name)) for name in columns)] for count, each in found.items()]
    rows += growth_rows("", list(lines.values()))
    note = (
        f"One worker on a core of its own, models of {SMALL.layers} layers of width {SMALL.width}; {CLIENTS} clients "
        f"on another core ask the models in turn, one text of {LENGTH} tokens a request. Only requests to one model "
        "run together, so the more models are asked at a time, the smaller the batches."
    )
    return Curve("models", note, ("models", *lines), rows, lines, ("loaded models", "as named"))


def workers(counts: Sequence[int], seconds: float, tell: Tell) -> Curve:
    """The load has no core of its own: it takes its share of those that the workers have."""
    cores = sorted(os.sched_getaffinity(0))
    texts = bodies(["model"], ROWS)
    requests = [http_request(PORT, PATH, body) for body in texts]
    found, cpu = dict[int, Load](), dict[int, float]()
    with tempfile.TemporaryDirectory() as folder:
        publish(make_artifact(LARGER), Path(folder), "model")
        for count in counts:
            if count > len(cores):
                continue
            tell(f"workers: {count}")
            with serving(Path(folder), count, ",".join(map(str, cores)), texts[0]) as (process, _):
                found[count], cpu[count] = capacity(process, requests, CLIENTS * count, seconds)
    rates = {count: load.rate for count, load in found.items()}
    first = next(iter(rates.values()))
    rows = [
        [
            f"{count}",
            f"{load.rate:,.0f}",
            f"{ROWS * load.rate:,.0f}",
            f"{load.rate / first:.2f}",
            f"{1e6 * cpu[count]:,.0f}",
            f"{load.p50:.1f}",
            f"{load.generator:.0%} of a core",
        ]
        for count, load in found.items()
    ]
    note = (
        f"{len(cores)} cores for the workers and the load together; {CLIENTS} clients for each worker, requests of "
        f"{ROWS} texts, {LARGER.layers} layers of width {LARGER.width}."
    )
    header = ("workers", "requests/s", "texts/s", "times one worker", "CPU, µs a request", "p50, ms", "the load takes")
    return Curve("workers", note, header, rows, {"requests/s": rates}, ("workers", "requests/s"))
