"""Deep statistics of an adopted ONNX file, which runs padded, through the service."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from export.adopt.onnx_file.source import Hints
from runtime.artifact import Artifact, read_artifact
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import DEEP
from service.inference.engine import Engine
from tests.adopted import make_texts
from tests.conftest import serve, settings_for
from tests.export.adopt.onnx_file.files import save, tiny
from tests.export.adopt.onnx_file.test_adopter import adopt
from tests.helpers import once, rewrite

TEXTS = make_texts(40, 9, seed=5)


@pytest.fixture(scope="module")
def artifact(shared_path: Path) -> Artifact:
    def make(target: Path) -> None:
        adopt(save(target.parent / "source", tiny()), target, texts=320, hints=Hints(pooling="mean"))

    return read_artifact(once(shared_path / "adopted" / "file" / "1", make))


@pytest.fixture
def engine(artifact: Artifact) -> Engine:
    return Engine(settings_for(artifact))


@pytest.fixture
def client(artifact: Artifact, engine: Engine) -> Iterator[TestClient]:
    yield from serve(settings_for(artifact), engine)


def test_traffic_is_looked_at_deeply_and_shown_when_enough_was(client: TestClient, engine: Engine, artifact: Artifact):
    assert engine.sampler is not None
    for start in range(0, len(TEXTS), 4):  # texts of unlike lengths, of which a look takes all
        engine.sampler.credit = 1.0
        client.post("/embed", json={"inputs": TEXTS[start : start + 4]}).raise_for_status()
    deep = client.get(f"/norm-stats/{artifact.manifest.layer_names[0]}").json()["layer"]["deep"]
    assert deep["requests"] == len(TEXTS) >= 30
    graph = DeepGraph(artifact, Encoder(artifact))
    alone = [graph.run(graph.batches([item.tokens])[0]) for item in make_input_encoder(artifact).encode(TEXTS)]
    entered, left = (np.concatenate(parts).astype(np.float64) for parts in list(zip(*alone, strict=True))[:2])
    assert deep["tokens"] == len(left)  # padding is not counted
    np.testing.assert_allclose(deep["features"]["mean"], left.mean(0), atol=1e-5)
    np.testing.assert_allclose(deep["features"]["variance"], left.var(0), rtol=1e-3)
    assert deep["live"]["largest"][0]["value"] == pytest.approx(np.abs(entered).max(), rel=1e-4)
    assert deep["baseline"]["outliers"] and deep["shifted"]
    assert "update" not in deep["live"] or deep["live"]["update"] is None


def test_a_file_that_was_adopted_without_a_deep_graph_is_served_without(artifact: Artifact, tmp_path: Path):
    files = {name: content for name, content in artifact.files.items() if name != DEEP}
    path = rewrite(tmp_path / "old" / "1", Artifact(artifact.path, artifact.manifest, files), name="old")
    settings = settings_for(artifact).model_copy(update={"model": path})
    engine = Engine(settings)
    assert engine.sampler is None
    for client in serve(settings, engine):
        client.post("/embed", json={"inputs": TEXTS[:4]}).raise_for_status()
        assert client.get("/norm-stats").json()["requests"] == 4
