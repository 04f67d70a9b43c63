from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.adopt.directory.reference import NetworkReference
from export.adopt.parity import LIMITS, Expected, check_expected, verify
from export.adopt.writing import make_canary
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.graph.texts import make_input_encoder
from tests.adopted import RERANK, make_pairs, source_of
from tests.model.pretrained.networks import adopted


@pytest.fixture
def network(shared_path: Path) -> Any:
    """The reranker as it was read for its adoption."""
    return adopted(source_of(RERANK, shared_path))[1]


@pytest.fixture(scope="module")
def graph(rerank_artifact: Artifact) -> Encoder:
    return Encoder(rerank_artifact)


@pytest.fixture(scope="module")
def sequences(rerank_artifact: Artifact) -> list[Tokens]:
    return [item.tokens for item in make_input_encoder(rerank_artifact).encode(make_pairs(12))]


class Altered:
    """An encoder whose answers are changed."""

    def __init__(self, graph: Encoder, alter: Callable[[EncodedBatch], EncodedBatch]) -> None:
        self.graph, self.alter = graph, alter

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        return self.alter(self.graph.run(sequences))


def test_the_graph_agrees_with_its_network(graph: Encoder, network: Any, sequences: list[Tokens]):
    errors = verify(graph, NetworkReference(network), sequences)
    assert errors.keys() == LIMITS.keys()
    for kind, error in errors.items():
        assert 0 <= error <= LIMITS[kind] / 3


def head(network: Any) -> None:
    network.model.classifier.bias += 1


def last_norm(network: Any) -> None:
    network.model.bert.encoder.layer[1].output.LayerNorm.weight *= 1.001


def shift(network: Any) -> None:
    """A norm does not see that all features are moved alike; its mean does."""
    network.model.bert.encoder.layer[1].output.dense.bias += 0.1


def one_token(network: Any) -> None:
    network.model.bert.embeddings.word_embeddings.weight[5, ::2] += 1


def eps(network: Any) -> None:
    network.model.bert.encoder.layer[0].output.LayerNorm.eps = 1e-2


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (head, "logits"),
        (last_norm, "logits|embedding"),
        (shift, "means"),
        (one_token, "logits|embedding"),
        (eps, "logits|embedding|inverse_deviations"),
    ],
)
def test_a_network_that_was_changed_after_export_is_refused(
    change: Callable[[Any], None], kinds: str, graph: Encoder, network: Any, sequences: list[Tokens]
):
    with torch.no_grad():
        change(network)
    with pytest.raises(ExportError, match=rf"^The graph's ({kinds}) differ from PyTorch's by .*: nothing was written"):
        verify(graph, NetworkReference(network), sequences)


def test_a_graph_whose_rows_see_each_other_is_refused(graph: Encoder, network: Any, sequences: list[Tokens]):
    def leak(batch: EncodedBatch) -> EncodedBatch:
        return batch if len(batch.lengths) > 1 else replace(batch, embedding=batch.embedding * np.float32(1.001))

    with pytest.raises(ExportError, match="packed_against_alone"):
        verify(Altered(graph, leak), NetworkReference(network), sequences)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["logits", "embedding", "norm_statistics"])
def test_a_graph_that_gives_nan_is_refused(name: str, graph: Encoder, network: Any, sequences: list[Tokens]):
    def spoil(batch: EncodedBatch) -> EncodedBatch:
        return replace(batch, **{name: getattr(batch, name) * np.float32("nan")})

    with pytest.raises(ExportError, match="by nan: nothing was written"):
        verify(Altered(graph, spoil), NetworkReference(network), sequences)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["logits", "embedding", "norm_statistics"])
@pytest.mark.parametrize(
    ("value", "fault"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (0, "all zero")]
)
def test_a_network_that_tells_nothing_by_itself_is_refused(
    name: str, value: float, fault: str, network: Any, sequences: list[Tokens]
):
    found = NetworkReference(network).run(sequences[:2])
    values = dict(found.answers) | {"norm_statistics": found.norm_statistics}
    values[name] = np.full_like(values[name], value)
    spoilt = Expected(norm_statistics=values.pop("norm_statistics"), answers=values)
    with pytest.raises(ExportError, match=rf"^The network's own {name} are {fault} for .*, before any export: "):
        make_canary(sequences[:2], spoilt)


def test_a_reference_without_norms_is_no_fault():
    found = Expected({"embedding": np.ones((2, 3))}, np.empty((5, 0)))
    assert check_expected(found) is found


def held(network: torch.nn.Module) -> dict[str, bytes]:
    """Every weight and buffer, bit by bit, with its type."""
    return {name: str(value.dtype).encode() + value.numpy().tobytes() for name, value in network.state_dict().items()}


def test_the_reference_leaves_the_network_as_it_was(network: Any, sequences: list[Tokens]):
    before = held(network)
    NetworkReference(network).run(sequences)
    assert held(network) == before
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_reference_that_fails_leaves_the_network_as_it_was(network: Any):
    before = held(network)
    with pytest.raises(IndexError):
        NetworkReference(network).run([np.array([[10**6, 0]])])
    assert held(network) == before


def test_the_reference_is_float64_and_sees_one_sequence_at_a_time(network: Any, sequences: list[Tokens]):
    reference = NetworkReference(network)
    together, alone = reference.run(sequences), [reference.run([sequence]) for sequence in sequences]
    for name in ("logits", "embedding"):
        assert together.answers[name].dtype == np.float64
        np.testing.assert_array_equal(together.answers[name], np.concatenate([one.answers[name] for one in alone]))
    np.testing.assert_array_equal(together.norm_statistics, np.concatenate([one.norm_statistics for one in alone]))
    assert together.norm_statistics.shape == (sum(map(len, sequences)), 2 * len(network.norms))
