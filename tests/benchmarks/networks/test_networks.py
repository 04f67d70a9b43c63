"""Requests carry the row that they are made of; networks of the benchmark keep their norms when they are exported."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.networks.served import request
from benchmarks.networks.shapes import INPUT, SHAPES, adopted, images, make
from tests.export.adopt.onnx_file.files import few_draws


def test_a_request_carries_its_row() -> None:
    row = images(4, 1)[0]
    head, _, body = request(row, "net").partition(b"\r\n\r\n")
    lines = dict(line.split(": ") for line in head.decode().splitlines()[1:])
    length = int(lines["Inference-Header-Content-Length"])
    assert int(lines["Content-Length"]) == len(body)
    assert json.loads(body[:length])["inputs"][0]["shape"] == [1, 3, 4, 4]
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4").reshape(row.shape), row)


@pytest.mark.parametrize("name", ["resnet18-small"])
def test_every_norm_of_a_network_is_observed(name: str, tmp_path: Path) -> None:
    norms = [module for module in make(SHAPES[name]).modules() if "Norm" in type(module).__name__]
    with few_draws():
        _, artifact = adopted(name, tmp_path)
    assert len(artifact.manifest.layers) == len(norms) and not artifact.manifest.unobserved
    assert artifact.path == tmp_path / "models" / name / "1" and artifact.manifest.inputs.tensors[0].name == INPUT
