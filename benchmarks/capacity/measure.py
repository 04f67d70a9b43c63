"""Measures what a plan is made of: tokenizing and the graph in this process, then one worker under load."""

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

from benchmarks.adopted.rounds import pss_bytes
from benchmarks.capacity.costs import Answered, Costs, GraphTime, Measured, Served, fit, fit_served
from benchmarks.capacity.service import CLIENTS, PATHS, Service, serving
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE
from runtime.artifact import Artifact, read_artifact
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.graph.texts import make_input_encoder
from service.inference.engine import batch_tokens

BATCHES = (1, 2, 4, 8, 16, 32, 64)  # texts
ROUNDS, GRAPH_SECONDS, TOKENIZE_SECONDS = 60, 15.0, 1.0
WATCHED, PAUSE = 5.0, 2e-4  # seconds that pauses are looked for; from which on one counts
LOADED = 2_000  # texts that are asked for before a service is measured
LOADS = (0.3, 0.5, 0.7, 0.9)  # of its capacity
FEW = (2, 4, 8, 16)  # clients that fill smaller batches than those which ask for all it can
START = ("what is", "how do i change", "can you tell me", "i would like to see", "please", "when comes")
MIDDLE = ("my account balance", "the pin of my card", "a flight to paris", "the weather", "my last order", "a table")
END = ("", "today", "for two people next friday", "as soon as possible", "if that is not too much trouble", "in euros")

Tell = Callable[[str], None]


def default_texts() -> list[str]:
    """216 short questions, in one random order."""
    texts = [f"{start} {middle} {end}".strip() for start in START for middle in MIDDLE for end in END]
    return [texts[place] for place in np.random.default_rng(0).permutation(len(texts))]


def read_texts(path: Path | None) -> list[str]:
    """The texts of a file, one a line; short questions where there is none.

    Raises:
        SystemExit: it holds none.
    """
    if path is None:
        return default_texts()
    texts = [line for line in path.read_text().splitlines() if line.strip()]
    if not texts:
        raise SystemExit(f"{path} holds no text, expected one a line.")
    return texts


def read_text_artifact(model: Path) -> Artifact:
    """The artifact, if it reads single texts and answers with labels or embeddings, else SystemExit."""
    artifact = read_artifact(model)
    inputs, task = artifact.manifest.inputs, artifact.manifest.task
    if inputs.kind != "text" or inputs.pairs or task not in PATHS:
        raise SystemExit(f"{model} cannot be measured, expected a model that gives labels or embeddings of texts.")
    return artifact


def check_cores() -> None:
    """SystemExit unless there is a core for the service and one for the load."""
    if not {SERVICE_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("Measuring needs two cores, one for the service and one for the load: or give it --costs.")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(model: Path, texts: list[str], rows: int, seconds: float, tell: Tell) -> Measured:
    """Everything of one worker; takes half a minute, and `seconds` for smaller batches, its capacity, and each load."""
    check_cores()
    artifact = read_text_artifact(model)
    with on_core(SERVICE_CORE):
        tell("pauses of the core")
        pauses = find_pauses(WATCHED)
        tell("tokenizing, and the graph")
        encoder, inputs = Encoder(artifact), make_input_encoder(artifact)
        sequences = [item.tokens for item in inputs.encode(texts)]
        tokenize = time_tokenizing(lambda text: inputs.encode([text]), texts)
        most_tokens = batch_tokens("cpu", encoder.token_seconds())
        graph = time_graph(encoder, sequences, most_tokens)
    with on_core(LOAD_CORE):
        tell("memory of workers")
        two, three = (memory(model, texts, rows, workers) for workers in (2, 3))
        with serving(model, texts, rows, 1) as service:
            found, loads = under_load(service, seconds, tell)
    memories = max(0.0, two - 2 * (three - two)), three - two
    lengths, norms = [len(tokens) for tokens in sequences], len(artifact.manifest.layers)
    costs = Costs(
        rows,
        lengths,
        tokenize,
        graph,
        most_tokens,
        norms,
        *found,
        *memories,
        service.start,
        pauses,
        WATCHED,
        describe(),
    )
    return Measured(costs, loads)


def under_load(service: Service, seconds: float, tell: Tell, rest: float = 0.0) -> tuple[Answered, list[Served]]:
    """A service's capacity, and what it does at LOADS of it.

    Args:
        rest: seconds that the generator sleeps where it has no core of its own.
    """
    about = f"{service.workers} workers, requests of {service.rows} texts"
    tell(f"{about}: capacity")
    service.ask(LOADED // service.rows, CLIENTS * service.workers)  # warms up
    alone, most = service.alone(seconds / 2), service.closed_loop(seconds)
    served = fit_served([*(service.closed_loop(seconds / len(FEW), clients) for clients in FEW), most])
    loads = []
    for load in LOADS:
        tell(f"{about}: {load:g} of {most.answered:,.0f} requests/s")
        loads.append(service.open_load(load, load * most.answered, seconds, rest=rest))
    return Answered(alone, served, most, service.request_bytes, service.response_bytes), loads


def find_pauses(seconds: float) -> list[float]:
    """Seconds of each pause in which this process did not run, though it had a core and never slept.

    Others on the machine, and the hypervisor, take them; a service meets them as well (jHiccup does the same in Java).
    """
    found, now = [], time.perf_counter()
    until = now + seconds
    gc.disable()
    try:
        while now < until:
            before, now = now, time.perf_counter()
            if now - before > PAUSE:
                found.append(now - before)
    finally:
        gc.enable()
    return found


def time_tokenizing(tokenize: Callable[[str], object], texts: list[str]) -> float:
    """Median seconds of a text."""
    found, until = list[float](), time.perf_counter() + TOKENIZE_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        tokenize(texts[len(found) % len(texts)])
        found.append(time.perf_counter() - started)
    return median(found)


def time_graph(encoder: Encoder, sequences: list[Tokens], most_tokens: int) -> GraphTime:
    """Batches of random texts, each size once a round, as far as they fit into a batch of the service."""
    rng = np.random.default_rng(0)
    mean = float(np.mean([len(tokens) for tokens in sequences]))
    sizes = [size for size in BATCHES if size <= 2 or size * mean <= most_tokens]
    tokens, seconds = ({size: list[float]() for size in sizes} for _ in range(2))
    until = time.perf_counter() + GRAPH_SECONDS
    for number in range(ROUNDS):
        for size in sizes:
            batch = [sequences[place] for place in rng.integers(len(sequences), size=size)]
            started = time.perf_counter()
            encoder.run(batch)
            if number:  # the first round warms up
                seconds[size].append(time.perf_counter() - started)
                tokens[size].append(sum(map(len, batch)))
        if number > 2 and time.perf_counter() > until:
            break
    return fit([median(tokens[size]) for size in sizes], [median(seconds[size]) for size in sizes])


def memory(model: Path, texts: list[str], rows: int, workers: int) -> float:
    """PSS of a service after some load, in bytes."""
    with serving(model, texts, rows, workers) as service:
        service.ask(LOADED // rows * workers, 16 * workers)
        return float(pss_bytes(service.process.pids()))


def describe() -> str:
    """The machine and the date, in words."""
    names = [line.partition(":")[2].strip() for line in read_cpuinfo() if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    versions = f"Python {platform.python_version()}, onnxruntime {ort.__version__}"
    return f"{os.cpu_count()} cores ({cpu}), {versions}, {date.today():%Y-%m-%d}"


def read_cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
