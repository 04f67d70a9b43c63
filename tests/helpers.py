"""What the tests share: tiny artifacts built by the project's own code, ways to spoil them, and small comparisons."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import pytest
import torch
from filelock import FileLock

from export.deep import DeepEncoder, deep_graph
from export.exporter import describe_run, make_canary, measure_baseline
from export.graph import ServedEncoder, only, to_onnx
from export.verify import expect, random_sequence, spread
from model.data.dataset import Split
from model.data.tokenizer import train_tokenizer
from model.network.config import EncoderConfig
from model.network.encoder import Encoder as Network
from model.training.checkpoint import Run, RunInfo
from model.training.recipe import Recipe
from runtime.artifact import Artifact, read_artifact, write_artifact
from runtime.graph.batch import token_values
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.inputs import FeatureEncoder, InputEncoder, Tokens
from runtime.graph.packing import pack
from runtime.graph.texts import TextEncoder
from runtime.manifest import BASELINE, CANARY, DEEP, MANIFEST, MODEL, TOKENIZER, Manifest
from runtime.statistics.moments import Moments

LABELS = ["balance", "transfer", "weather"]
TEXTS = [
    f"{words} {thing}"
    for words, things in {
        "what is my": ("balance", "current balance", "savings", "credit limit", "account number"),
        "please send": ("ten dollars to my sister", "money to the landlord", "the rent", "twenty euros"),
        "will it": ("rain", "rain tomorrow in Paris", "snow on Friday", "be sunny this weekend", "storm"),
        "tell me": ("the balance of my account", "whether it rains", "the weather", "how much I have"),
        "can you": ("check my balance", "transfer money for me", "say if I need a coat", "pay the bill"),
    }.items()
    for thing in things
] + ["hi", "Café in Zürich?", "balance", "snow", "transfer", "how cold is it in the mountains today", "and now"] * 2

SMALL = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_classes": 3, "max_tokens": 12}


Export = tuple[Artifact, ServedEncoder]  # what is served, and the network it came from


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, made by the first process of the tests that asks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            make(path)
    return path


def make_text_artifact(path: Path) -> Export:
    tokenizer = train_tokenizer(TEXTS, 400)
    config = EncoderConfig(**SMALL, num_layers=2, vocab_size=tokenizer.get_vocab_size())
    run = Run(run_info(config), make_network(config, seed=1), tokenizer, {})
    return make_artifact(path, run, Split(TEXTS, np.zeros(len(TEXTS), dtype=np.int64)), TextEncoder(tokenizer, 12))


def make_feature_artifact(path: Path) -> Export:
    config = EncoderConfig(**SMALL, num_layers=1, num_features=4, norm="batch_norm", placement="pre")
    run = Run(run_info(config), make_network(config, seed=2), None, {})
    rng = np.random.default_rng(3)
    inputs = [random_sequence(config, length, rng) for length in rng.integers(1, 13, 30).tolist()]
    return make_artifact(path, run, Split(inputs, np.zeros(30, dtype=np.int64)), FeatureEncoder(4, 12))


def run_info(config: EncoderConfig) -> RunInfo:
    facts = {"dataset": "tiny", "data_sha256": "0" * 64, "source": "made up"}
    return RunInfo(**facts, labels=LABELS, recipe=Recipe(), encoder=config)


def make_network(config: EncoderConfig, seed: int) -> Network:
    """A random network whose norms do not merely normalize."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(config).eval()
        for _, norm in network.norms():
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, std=0.3)
            if config.norm == "batch_norm":
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
    return network


def make_artifact(path: Path, run: Run, validation: Split, inputs: InputEncoder) -> Export:
    served = ServedEncoder(run.model)
    once(path, lambda path: export_network(path, run, served, validation, inputs))
    return read_artifact(path), served


def export_network(path: Path, run: Run, served: ServedEncoder, validation: Split, inputs: InputEncoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's exporter says about torch
        both = to_onnx(DeepEncoder(run.model), pack(spread(run.info.encoder)[-1]))
    graph = only(served.outputs, both).SerializeToString()
    files = {MODEL: graph, DEEP: deep_graph(both, graph), CANARY: make_canary(served, validation, inputs)}
    if run.tokenizer is not None:
        files[TOKENIZER] = run.tokenizer.to_str().encode()
    manifest = describe_run(run, path.parent.name, path.name)
    artifact = Artifact(path, manifest, files)
    encoder = Encoder(artifact)
    files[BASELINE] = measure_baseline(encoder, DeepGraph(artifact, encoder), validation, inputs).to_json()
    write_artifact(path, manifest, files)


def expected_values(served: ServedEncoder, artifact: Artifact, sequences: list[Tokens]) -> np.ndarray:
    """Mean and variance of every token at every norm [N, 2L], by PyTorch in float64."""
    return token_values(expect(served, pack(sequences)).norm_statistics, artifact.manifest.layers)


def random_sequences(served: ServedEncoder, rows: int, seed: int = 0) -> list[Tokens]:
    config = served.encoder.config
    rng = np.random.default_rng(seed)
    return [random_sequence(config, length, rng) for length in rng.integers(1, config.max_tokens + 1, rows).tolist()]


def rewrite(path: Path, artifact: Artifact, files: dict[str, bytes] | None = None, **manifest: Any) -> Path:
    """Writes `artifact` to `path` with other files or manifest fields, sealed as if it had been exported so."""
    written = write_artifact(
        path, artifact.manifest.model_copy(update=manifest), artifact.files | (files or {}), overwrite=True
    )
    return written.path


def reseal(path: Path, **changes: Any) -> None:
    """Changes fields of the manifest in directory `path`, with a digest that fits."""
    manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_text(manifest.model_copy(update=changes).sealed().model_dump_json())


class Mergeable(Protocol):
    def merge(self, other: Self) -> Self: ...


State = TypeVar("State", bound=Mergeable)


def merge_anyhow(states: list[State], random: Random) -> State:
    """Merges states two by two, in any order and any grouping."""
    states = list(states)
    while len(states) > 1:
        first, second = (states.pop(random.randrange(len(states))) for _ in range(2))
        states.append(first.merge(second))
    return states[0]


def split_anyhow(values: np.ndarray, random: Random) -> list[np.ndarray]:
    """Shuffles the rows of `values` and cuts them into parts, some of them empty."""
    order = random.sample(range(len(values)), len(values))
    cuts = sorted(random.choices(range(len(values) + 1), k=random.randrange(8)))
    return np.split(values[order], cuts)


def assert_same(found: Any, expected: Any) -> None:
    """Counts and words are equal, figures to 1e-9: sums in another order differ in their last bits."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    else:
        assert found == expected


def assert_same_moments(found: Moments, expected: Moments, rtol: float) -> None:
    """Counts and extremes agree exactly, means and variances to `rtol` of the largest magnitude."""
    extremes = np.abs([expected.minimum, expected.maximum])
    scale = np.where(expected.count > 0, extremes.max(0), 0.0)
    np.testing.assert_array_equal(found.count, expected.count)
    np.testing.assert_array_equal(found.minimum, expected.minimum)
    np.testing.assert_array_equal(found.maximum, expected.maximum)
    assert (np.abs(found.mean - expected.mean) <= rtol * scale).all()
    assert (np.abs(found.variance - expected.variance) <= rtol * scale**2).all()


def publish(
    directory: Path, name: str, version: str, artifact: Artifact, files: dict[str, bytes] | None = None
) -> Path:
    """Writes `artifact` into a model repository under another name and version."""
    return rewrite(directory / name / version, artifact, files, name=name, version=version)


def wrong_canary(artifact: Artifact) -> dict[str, bytes]:
    """Files with which `artifact` no longer gives what it gave at export."""
    canary = json.loads(artifact.files[CANARY])
    return {CANARY: json.dumps(canary | {"logits": (np.array(canary["logits"]) + 1).tolist()}).encode()}
