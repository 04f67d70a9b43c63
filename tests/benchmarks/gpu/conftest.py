"""Graphs of a tiny network, exported once for all processes of the tests."""

from pathlib import Path

import pytest

from benchmarks.gpu.graphs import write_graphs
from benchmarks.gpu.network import Shape
from benchmarks.gpu.sessions import Graph, read_graphs
from tests.helpers import once

TINY = Shape(d_model=32, num_heads=2, num_layers=2, d_ff=48, num_classes=5, max_tokens=40, vocab_size=60)


@pytest.fixture(scope="session")
def tiny_folder(shared_path: Path) -> Path:
    return once(shared_path / "gpu-graphs", lambda folder: write_graphs({"tiny": TINY}, folder))


@pytest.fixture(scope="session")
def tiny_graphs(tiny_folder: Path) -> dict[str, Graph]:
    """By name of the file."""
    return {graph.path.stem: graph for graph in read_graphs(tiny_folder)}
