"""The engine: one loaded artifact that answers requests and records what its norms see."""

from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.artifact import Artifact, read_artifact
from runtime.baseline import read_baseline
from runtime.batch import EncodedBatch
from runtime.deep import DeepSampler
from runtime.deep_graph import DeepGraph
from runtime.encoder import Encoder
from runtime.errors import InvalidInput
from runtime.inputs import EncodedInput, describe, make_input_encoder
from runtime.probabilities import softmax
from runtime.session import Device
from runtime.statistics import row_means, token_values
from service.backlog import Answer, Receiver, Request
from service.batcher import Batcher
from service.collector import Collector, Statistics
from service.inference_counts import InferenceCounts
from service.runner import Runner
from service.scale import scaled
from service.schemas import PredictRequest
from service.settings import Settings


class Engine:
    """Loads the artifact that the settings name; ready once constructed.

    Attributes:
        counts: what this process answered with it.

    Args:
        collector: where it hands in what its norms see; one of its own where it is not given.
        artifact: the artifact, where it was read already.

    Raises:
        ArtifactError: the artifact is missing, half-written or altered.
        DeviceError: the device cannot be had.
    """

    def __init__(
        self, settings: Settings, collector: Statistics | None = None, artifact: Artifact | None = None
    ) -> None:
        settings, artifact = scaled(settings), artifact or read_artifact(settings.model)
        self.manifest = artifact.manifest
        self.identity = {"model": self.manifest.name, "version": self.manifest.version}
        self.max_rows = settings.max_rows
        self.inputs = make_input_encoder(artifact)
        self.encoder = Encoder(artifact, settings.device, settings.threads)
        self.placement = self.encoder.placement
        self.collector: Statistics = collector or Collector(artifact, settings)
        self.sampler = make_sampler(artifact, self.encoder, settings)
        own = self.collector.baselines[0] if isinstance(self.collector, Collector) else None
        self.baseline = own or read_baseline(artifact)
        self.timeout = settings.timeout
        self.counts = InferenceCounts()
        runner = Runner(self.encoder, self.collector, self.sampler, self.counts)
        self.batcher = Batcher(
            runner.run,
            after=runner.look_deeper,
            max_batch_tokens=settings.max_batch_tokens or batch_tokens(self.placement.device),
            max_queue_tokens=settings.max_queue_tokens,
            offload=self.placement.device != "cpu",
        )

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        self.collector.start()

    async def close(self) -> None:
        """Answers what was accepted, and keeps the statistics a last time."""
        await self.batcher.close()
        self.collector.close()

    def encode(self, inputs: Any) -> list[EncodedInput]:
        """What a client sent, 1 to max_rows inputs or a single text, ready to run.

        Raises:
            InvalidInput: it cannot be answered; says which input and what is allowed.
        """
        return self.inputs.encode(self.as_list(inputs))

    def submit(self, encoded: list[EncodedInput], receiver: Receiver, timeout: float | None = None) -> Request:
        """Lets R >= 1 encoded inputs run with whatever else waits; rows of the answer's batch are in their order.

        Args:
            receiver: gets the answer; `predictions` says whether it can be used.
            timeout: seconds after which no answer is wanted; the service's own limit where it is not given.

        Raises:
            Unavailable, Overloaded: it cannot be answered now.
        """
        return self.batcher.admit([item.tokens for item in encoded], receiver, timeout or self.timeout)

    async def infer(self, encoded: list[EncodedInput], timeout: float | None = None) -> Answer:
        """The same for who can wait.

        Raises:
            InvalidInput: an input overflows the model; says which.
            Unavailable, Overloaded, DeadlineExceeded: it cannot be answered now, or in time.
        """
        answer = await self.batcher.submit([item.tokens for item in encoded], timeout or self.timeout)
        check_finite(answer.batch)
        return answer

    def predictions(
        self, encoded: list[EncodedInput], batch: EncodedBatch, request: PredictRequest
    ) -> list[dict[str, Any]]:
        """The answer to a request, as `service.schemas.Prediction` describes it.

        Raises:
            InvalidInput: an input overflows the model; says which.
        """
        check_finite(batch)
        labels = self.manifest.labels
        predictions: list[dict[str, Any]] = []
        for item, best, score in zip(encoded, batch.classes, batch.scores, strict=True):
            top = {"label": labels[best], "score": score}
            predictions.append(top | {"tokens": len(item.tokens), "truncated": item.truncated, "top": [top]})
        if request.top_k > 1:
            for prediction, probabilities in zip(predictions, softmax(batch.logits), strict=True):
                prediction["top"] = self._top(probabilities, request.top_k)
        if request.norm_stats:
            for prediction, deviations in zip(predictions, self.deviations(batch), strict=True):
                prediction["norm_stats"] = deviations
        return predictions

    def _top(self, probabilities: NDArray[np.float64], count: int) -> list[dict[str, Any]]:
        best = np.argsort(-probabilities, kind="stable")[:count]
        return [{"label": self.manifest.labels[i], "score": float(probabilities[i])} for i in best]

    def as_list(self, inputs: Any) -> list[Any]:
        """What a client sent as a list of 1 to max_rows inputs, or raises InvalidInput."""
        rows = [inputs] if isinstance(inputs, str) else inputs
        if not isinstance(rows, list):
            kind = "a text or a list of texts" if self.manifest.inputs.kind == "text" else "a list of sequences"
            raise InvalidInput("invalid_inputs", f"inputs is {describe(inputs)}, expected {kind}.")
        self.check_rows(len(rows))
        return rows

    def check_rows(self, rows: int) -> None:
        """Raises InvalidInput unless a request may have so many inputs."""
        if not rows:
            raise InvalidInput("no_inputs", f"inputs is empty, expected 1 to {self.max_rows} of them.")
        if rows > self.max_rows:
            raise InvalidInput("too_many_rows", f"inputs has {rows} rows, expected at most {self.max_rows}.")

    def norm_means(self, batch: EncodedBatch) -> NDArray[np.float64]:
        """Mean and variance at every norm, averaged over each row's tokens [R, 2L]."""
        return row_means(token_values(batch.norm_statistics, self.manifest.layers), batch.lengths)

    def deviations(self, batch: EncodedBatch) -> list[list[dict[str, Any]]]:
        """How far every row's tokens lie from the baseline's requests, as `service.schemas.LayerDeviation` says it."""
        layers = self.manifest.layers
        means = self.norm_means(batch)
        scores = self.baseline.z_scores(means)
        return [
            [
                {
                    "name": layer.name,
                    "mean": row[2 * i],
                    "variance": row[2 * i + 1],
                    "mean_z": z[2 * i],
                    "variance_z": z[2 * i + 1],
                }
                for i, layer in enumerate(layers)
            ]
            for row, z in zip(means.tolist(), scores.tolist(), strict=True)
        ]


def check_finite(batch: EncodedBatch) -> None:
    """Raises InvalidInput where a row overflowed the model."""
    if isnan(sum(batch.scores)):
        row = [isnan(score) for score in batch.scores].index(True)
        raise InvalidInput(
            "not_finite", f"inputs[{row}] overflows the model, expected values like the training data's."
        )


def batch_tokens(device: Device) -> int:
    """How many tokens run together where the settings leave it open; a CPU is no faster with more."""
    return 512 if device == "cpu" else 1024


def make_sampler(artifact: Artifact, encoder: Encoder, settings: Settings) -> DeepSampler | None:
    """What looks deeply at a sample of the traffic; None where the artifact or the budget allows none."""
    if not settings.deep_budget or (graph := DeepGraph.of(artifact, encoder, settings.threads)) is None:
        return None
    return DeepSampler(graph.measure, settings.deep_budget)
