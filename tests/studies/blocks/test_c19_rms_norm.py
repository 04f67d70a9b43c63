"""C19: what is timed computes the same as PyTorch, and cells, comparisons and picture belong together."""

import numpy as np
import pytest
import torch

from runtime.graph.packing import pack
from studies.blocks import c19_rms_norm as claim
from studies.claim import Cell
from studies.tasks import digits
from tests.studies.fakes import check, same_twice


@pytest.mark.parametrize("norm", claim.NORMS)
def test_the_graph_that_is_timed_answers_as_the_network_does(monkeypatch, norm):
    monkeypatch.setattr(claim, "LAYERS", 1)
    monkeypatch.setattr(claim, "WIDTH", 16)
    torch.manual_seed(2000)
    network = claim.make(norm).eval()
    inputs = digits("sequences")[1].inputs[:3]
    packed = pack([row.numpy() for row in inputs])
    graph = claim.session(claim.graph_of(network, packed))
    names = [each.name for each in graph.get_inputs()]
    arrays = (packed.values, packed.position_ids, packed.segment_ids, packed.pooling)
    logits, _, statistics = graph.run(None, dict(zip(names, arrays, strict=True)))
    np.testing.assert_allclose(logits, network(inputs).detach(), rtol=1e-3, atol=1e-5)
    assert statistics.shape[-1] == 2 * 3  # two norms of the block and the last one


def test_costs_are_told_in_per_cent_of_the_reference(monkeypatch):
    monkeypatch.setattr(claim, "graph_of", lambda network, _: b"x" * (110 if network == "network" else 100))
    monkeypatch.setattr(claim, "session", lambda graph: graph)
    monkeypatch.setattr(claim, "stepper", lambda *_: lambda: None)
    monkeypatch.setattr(claim, "compare", lambda *_: {"network": type("Timing", (), {"ratio": 0.9})})
    found = claim.costs("reference", "network", digits("sequences")[1])
    assert found == pytest.approx({"training": -10, "serving": -10, "bytes": 10})


def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch):
    monkeypatch.setattr(claim, "STEPS", 5)
    measures = same_twice(claim.CLAIM, Cell.of(2000, rate=1e-3, norm="rms_norm", part="loss"))
    check(claim.CLAIM, {**measures, "training": 1.0, "serving": 1.0, "bytes": 1.0})
