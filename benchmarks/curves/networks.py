"""Classifiers of any size with random weights, and texts of so many tokens.

What a request costs depends on the sizes of a network, not on what it has learned. So nothing is trained: the exporter
gets a network as it was initialized, and the baseline is made of few texts. The vocabulary is small in all of them: a
larger one makes the file larger, but looking a token up takes no longer.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.capacity.measure import default_texts
from export.exporter import describe_run, make_canary
from export.graph import ServedEncoder, to_onnx
from export.reference import MIN_REQUESTS, PER_CLASS, fit_reference
from model.data.dataset import Split
from model.data.tokenizer import train_tokenizer
from model.network.config import EncoderConfig
from model.network.encoder import Encoder as Network
from model.training.checkpoint import Run, RunInfo
from model.training.recipe import Recipe
from runtime.artifact import Artifact, write_artifact
from runtime.drift.baseline import Baseline
from runtime.drift.numbers import request_features
from runtime.graph.batch import EncodedBatch, join, row_means, token_values
from runtime.graph.encoder import Encoder
from runtime.graph.packing import pack
from runtime.graph.texts import TextEncoder
from runtime.manifest import BASELINE, CANARY, MODEL, TOKENIZER
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import NormRecorder

HEAD_WIDTH, INNER = 64, 4  # features of an attention head; the feed-forward's width, in widths: as BERT has them
VOCABULARY = 2000
ROWS, RUN = 20 * PER_CLASS, 16  # texts of the baseline, and of a run
FEW = 50  # windows that a threshold is drawn from: judging takes as long with any threshold


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a network.

    Attributes:
        width: features of a token, a multiple of HEAD_WIDTH or less than that.
    """

    layers: int = 2
    width: int = 64
    classes: int = 10
    max_tokens: int = 64

    @property
    def norms(self) -> int:
        """One after the embedding, two in each layer."""
        return 1 + 2 * self.layers

    def config(self) -> EncoderConfig:
        return EncoderConfig(
            d_model=self.width,
            num_heads=max(1, self.width // HEAD_WIDTH),
            num_layers=self.layers,
            d_ff=INNER * self.width,
            num_classes=self.classes,
            max_tokens=self.max_tokens,
            vocab_size=tokenizer().get_vocab_size(),
        )


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(default_texts(), VOCABULARY)


@cache
def words() -> list[str]:
    """Words of which each is one token, wherever it stands."""
    found = sorted({word for text in default_texts() for word in text.split()})
    return [word for word in found if len(tokenizer().encode(word).ids) == 1]


def text_of(tokens: int, seed: int) -> str:
    """A text of so many tokens."""
    return " ".join(np.random.default_rng(seed).choice(words(), tokens).tolist())


def make_artifact(shape: Shape, path: Path = Path("random/1")) -> Artifact:
    """A classifier with random weights and a baseline, in memory; `path` gives its name and version."""
    config = shape.config()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(config).eval()
    labels = [f"class {number}" for number in range(shape.classes)]
    facts = {"dataset": "random", "data_sha256": "0" * 64, "source": "random weights"}
    run = Run(RunInfo(**facts, labels=labels, recipe=Recipe(), encoder=config), network, tokenizer(), {})
    inputs, lengths = TextEncoder(tokenizer(), shape.max_tokens), np.random.default_rng(0).integers(4, 30, ROWS)
    texts = [text_of(min(length, shape.max_tokens), seed) for seed, length in enumerate(lengths.tolist())]
    sequences = [item.tokens for item in inputs.encode(texts)]
    served = ServedEncoder(network)
    files = {
        MODEL: to_onnx(served, pack(sequences[:3])).SerializeToString(),
        CANARY: make_canary(served, Split(texts[:4], np.zeros(4, dtype=np.int64)), inputs),
        TOKENIZER: tokenizer().to_str().encode(),
    }
    artifact = Artifact(path, describe_run(run, path.parent.name, path.name), files)
    encoder = Encoder(artifact)
    batches = [encoder.run(sequences[start : start + RUN]) for start in range(0, ROWS, RUN)]
    files[BASELINE] = make_baseline(artifact, batches).to_json()
    return artifact


def make_baseline(artifact: Artifact, batches: list[EncodedBatch]) -> Baseline:
    """The baseline of some runs, with as many classes as the artifact has.

    Random weights give nearly all texts the same class, so these are dealt out, PER_CLASS texts each.
    """
    layers = artifact.manifest.layers
    recorder, rows = NormRecorder(layers), Moments.empty(2 * len(layers))
    for batch in batches:
        recorder.observe(batch)
        means = row_means(token_values(batch.norm_statistics, layers), batch.lengths)
        rows = rows.merge(Moments.of(means, np.isfinite(means)))
    features, _ = request_features(join(batches))
    number = max(1, min(len(features) // PER_CLASS, len(artifact.manifest.labels)))
    with patch("export.reference.DRAWS", FEW):
        reference = fit_reference(features, np.arange(len(features)) % number, len(artifact.manifest.labels))
    assert reference is not None, f"a baseline needs {MIN_REQUESTS} texts"
    return Baseline(recorder.state(), rows, reference)


def publish(artifact: Artifact, models: Path, name: str) -> Path:
    """Writes the artifact into a model repository, as version 1 of that name."""
    manifest = artifact.manifest.model_copy(update={"name": name, "version": "1"})
    return write_artifact(models / name / "1", manifest, artifact.files).path
