"""The engine: one loaded artifact that answers requests and records what its norms see."""

import os
import time
from collections.abc import Sequence
from math import isnan
from typing import Any, NamedTuple, Protocol

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch, join
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.inputs import EncodedInput, describe
from runtime.graph.packing import Tokens
from runtime.graph.tensor_graph import TensorGraph, open_encoder
from runtime.graph.texts import TextEncoder, make_input_encoder
from runtime.manifest import Task
from runtime.options import Device
from runtime.statistics.deep import DeepSampler, DeepState
from service.batching.batcher import Batcher
from service.batching.executors import Executor, LoopExecutor, ThreadExecutor, cpu_thread
from service.batching.queue import Receiver, Request
from service.cpus import share_cpus
from service.inference.writing import PredictionWriter
from service.norm_stats.collector import Collector
from service.norm_stats.interface import Statistics
from service.settings import Settings
from service.telemetry.inference_counts import InferenceCounts

SLOW = 0.06  # seconds of a full batch from which it runs in a thread: the event loop answers others meanwhile
BATCH_SECONDS = 0.2  # of a batch on the CPU, about; a slow model's holds fewer tokens
FEWEST_TOKENS, MOST_TOKENS, GPU_TOKENS = 32, 512, 1024  # of a batch; on a CPU, more run no faster
ANSWERS: dict[Task, str] = {
    "classification": "labels and embeddings: ask POST /predict or POST /embed",
    "embedding": "embeddings: ask POST /embed, POST /similarity or POST /v1/embeddings",
    "rerank": "scores of documents for a query: ask POST /rerank",
}


class Graphs(NamedTuple):
    """An artifact's graphs in sessions; no deep graph where the artifact or the budget allows none."""

    encoder: Encoder
    deep: DeepGraph | None


def open_graphs(artifact: Artifact, settings: Settings) -> Graphs:
    encoder = open_encoder(artifact, settings.device, settings.threads, settings.allow_fp32)
    return Graphs(encoder, DeepGraph.of(artifact, encoder, settings.threads) if settings.deep_budget else None)


class Engine:
    """Loads the artifact that the settings name; ready once constructed.

    Attributes:
        counts: what this process answered with it.

    Args:
        collector: where it hands in what its norms see; one of its own where it is not given.
        artifact: the artifact, where it was read already.
        graphs: its graphs in sessions, where there are some already.

    Raises:
        ArtifactError: the artifact is missing, half-written or altered.
        DeviceError: the device cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        collector: Statistics | None = None,
        artifact: Artifact | None = None,
        graphs: Graphs | None = None,
    ) -> None:
        settings, artifact = share_cpus(settings), artifact or read_artifact(settings.model)
        self.manifest = artifact.manifest
        self.identity = {"model": self.manifest.name, "version": self.manifest.version}
        self.max_rows = settings.max_rows
        self.inputs = make_input_encoder(artifact)
        graphs = graphs or open_graphs(artifact, settings)
        self.encoder = graphs.encoder
        self.placement = self.encoder.placement
        self.collector: Statistics = collector or Collector(artifact, settings)
        budget, deep = settings.deep_budget, graphs.deep
        self.sampler = DeepSampler(deep.run, budget, batches=deep.batches) if deep else None
        own = self.collector.baselines.own if isinstance(self.collector, Collector) else None
        self.baseline = own or read_baseline(artifact)
        self.writer = PredictionWriter(self.manifest, self.baseline)
        self.timeout = settings.timeout
        self.counts = InferenceCounts()
        runner = ModelRunner(self.encoder, self.collector, self.sampler, self.counts)
        token_seconds = self.encoder.token_seconds()
        most = settings.max_batch_tokens or batch_size(self.encoder, token_seconds)
        self.batcher = Batcher(
            runner.run,
            after=runner.look_deeper,
            max_batch_tokens=most,
            max_queue_tokens=settings.max_queue_tokens,
            executor=choose_executor(self.placement.device, most * token_seconds),
            token_seconds=token_seconds,
        )

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        self.collector.start()

    async def close(self) -> None:
        """Answers what was accepted, and keeps the statistics a last time."""
        await self.batcher.close()
        self.collector.close()

    def require(self, *tasks: Task) -> None:
        """Raises InvalidInput unless the model has one of these tasks; says what it answers, and where."""
        if self.manifest.task not in tasks:
            gives = ANSWERS[self.manifest.task]
            raise InvalidInput("wrong_task", f"{self.manifest.name} gives {gives}.")

    def require_single_texts(self) -> None:
        """Raises InvalidInput where the model reads pairs of texts."""
        inputs = self.manifest.inputs
        if inputs.kind == "text" and inputs.pairs:
            raise InvalidInput(
                "wrong_task", f"{self.manifest.name} reads pairs of texts, expected a model of single ones."
            )

    @property
    def texts(self) -> TextEncoder:
        """What encodes texts; raises InvalidInput where the model reads float sequences."""
        if not isinstance(self.inputs, TextEncoder):
            reads = "float sequences" if self.manifest.inputs.kind == "features" else "tensors"
            raise InvalidInput("wrong_task", f"{self.manifest.name} reads {reads}, no texts.")
        return self.inputs

    def encode(self, inputs: Any, prompt: str | None = None) -> list[EncodedInput]:
        """What a client sent, 1 to max_rows inputs or a single text, ready to run.

        Args:
            prompt: name of the text that is put before each input; the model's default where none is named.

        Raises:
            InvalidInput: it cannot be answered; says which input and what is allowed.
        """
        rows = self.as_list(inputs)
        return self.inputs.encode(rows) if prompt is None else self.texts.encode(rows, prompt)

    def submit(self, encoded: list[EncodedInput], receiver: Receiver, timeout: float | None = None) -> Request:
        """Submits R >= 1 encoded inputs to the batcher; the rows of the answer are in the same order.

        Args:
            receiver: gets the answer, which `service.inference.results.check_finite` is to look at.
            timeout: seconds after which no answer is wanted; the service's own limit where it is not given.

        Raises:
            Unavailable, Overloaded: it cannot be answered now.
        """
        return self.batcher.admit([item.tokens for item in encoded], receiver, timeout or self.timeout)

    def as_list(self, inputs: Any) -> list[Any]:
        """What a client sent as a list of 1 to max_rows inputs, or raises InvalidInput."""
        rows = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(rows, list):
            kinds = {
                "text": "a text or a list of texts",
                "features": "a list of sequences",
                "tensors": "a list of rows",
            }
            kind = kinds[self.manifest.inputs.kind]
            raise InvalidInput("invalid_inputs", f"inputs is {describe(inputs)}, expected {kind}.")
        self.check_rows(len(rows))
        return rows

    def check_rows(self, rows: int) -> None:
        """Raises InvalidInput unless a request may have so many inputs."""
        if not rows:
            raise InvalidInput("no_inputs", f"inputs is empty, expected 1 to {self.max_rows} of them.")
        if rows > self.max_rows:
            raise InvalidInput("too_many_rows", f"inputs has {rows} rows, expected at most {self.max_rows}.")


def batch_size(encoder: Encoder, token_seconds: float) -> int:
    """How many tokens, or rows of tensors, run together where the settings leave it open."""
    device = encoder.placement.device
    if device == "cpu" and isinstance(encoder, TensorGraph):
        return encoder.fastest_rows(BATCH_SECONDS)
    return batch_tokens(device, token_seconds)


def batch_tokens(device: Device, token_seconds: float) -> int:
    """How many tokens run together where the settings leave it open."""
    if device != "cpu":
        return GPU_TOKENS
    return max(FEWEST_TOKENS, min(MOST_TOKENS, int(BATCH_SECONDS / token_seconds)))


def choose_executor(device: Device, batch_seconds: float) -> Executor:
    """Where batches run that take so long."""
    if device != "cpu":
        return ThreadExecutor()
    return ThreadExecutor(cpu_thread(os.getpid())) if batch_seconds > SLOW else LoopExecutor()


class Observer(Protocol):
    """Takes what norms saw: a collector, or a recorder."""

    def observe(self, batch: EncodedBatch, seconds: float) -> None: ...
    def observe_deep(self, state: DeepState, seconds: float) -> None: ...


class ModelRunner:
    """An encoder whose runs are counted.

    Args:
        collector: where it hands in what the norms saw.
        sampler: looks deeply at a few sequences; None looks at none.
        counts: of what was run.
    """

    def __init__(
        self, encoder: Encoder, collector: Observer, sampler: DeepSampler | None, counts: InferenceCounts
    ) -> None:
        self.encoder, self.collector, self.sampler, self.counts = encoder, collector, sampler, counts

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Runs R >= 1 sequences, and counts them."""
        started = time.perf_counter()
        batch = self.encoder.run(sequences)
        ran = time.perf_counter()
        finite = not isnan(sum(batch.scores))
        if finite:
            self.collector.observe(batch, ran - started)
        packing, batch.stats_seconds = self.encoder.pack_seconds, time.perf_counter() - ran
        self.counts.run(len(sequences), packing, ran - started - packing, batch.stats_seconds)
        if finite or len(sequences) == 1:
            return batch
        # One that overflows must not reach its neighbours, and is not recorded.
        return join([self.run([sequence]) for sequence in sequences])

    def look_deeper(self, sequences: Sequence[Tokens]) -> None:
        """Looks deeply at a few of the sequences that were answered, if there is time for it."""
        if self.sampler is not None and self.sampler.due:
            spent = self.sampler.spent
            self.collector.observe_deep(self.sampler.look(sequences), self.sampler.spent - spent)
