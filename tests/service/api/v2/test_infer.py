import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.batch import row_means, softmax, token_values
from runtime.graph.encoder import Encoder
from service.api.v2.infer import Target, target_of
from service.inference.engine import Engine
from tests.helpers import LABELS, TEXTS, Export, random_sequences
from tests.service.api.v2.asking import (
    FEATURES,
    HEADER,
    INFER,
    ask,
    ask_binary,
    binary,
    elements,
    outputs,
    tensor,
    text,
)
from tests.service.http.test_errors import assert_error

ALL = ["logits", "probabilities", "label", "score", "embedding"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/models/a/infer", Target("a", None)),
        ("/v2/models/a/versions/3/infer", Target("a", "3")),
        ("/v2/models/a/b/infer", None),
        ("/v2/models/a/versions/infer", None),
        ("/v2/models/a/infer/", None),
        ("/v2/models//infer", None),
        ("/v2/models/a/ready", None),
        ("/predict", None),
    ],
)
def test_paths_name_a_model_and_perhaps_a_version(path: str, target: Target | None):
    assert target_of(path) == target


def test_all_outputs_are_those_of_the_encoder(client: TestClient, text_engine: Engine, text_encoder: Encoder):
    response = ask(client, INFER, text(*TEXTS[:3]), id="mine")
    body, found = response.json(), outputs(response)
    assert (body["model_name"], body["model_version"], body["id"]) == ("texts", "1", "mine")
    assert list(found) == ALL
    batch = text_encoder.run([item.tokens for item in text_engine.inputs.encode(TEXTS[:3])])
    np.testing.assert_allclose(np.reshape(found["logits"], (3, 3)), batch.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.reshape(found["probabilities"], (3, 3)), softmax(batch.logits), rtol=1e-4)
    np.testing.assert_allclose(np.reshape(found["embedding"], (3, 16)), batch.embedding, rtol=1e-4, atol=1e-5)
    assert found["label"] == [LABELS[best] for best in batch.classes]
    np.testing.assert_allclose(found["score"], batch.scores, rtol=1e-4)
    assert [output["shape"] for output in body["outputs"]] == [[3, 3], [3, 3], [3], [3], [3, 16]]


def test_norm_statistics_come_where_they_are_asked_for(
    client: TestClient, text_engine: Engine, text_encoder: Encoder, text_artifact: Artifact
):
    response = ask(client, INFER, text(*TEXTS[:2]), outputs=[{"name": "norm_statistics"}])
    batch = text_encoder.run([item.tokens for item in text_engine.inputs.encode(TEXTS[:2])])
    layers = text_artifact.manifest.layers
    expected = row_means(token_values(batch.norm_statistics, layers), batch.lengths)
    assert response.json()["outputs"][0]["shape"] == [2, len(layers), 2]
    np.testing.assert_allclose(outputs(response)["norm_statistics"], expected.ravel(), rtol=1e-4, atol=1e-5)


def test_text_and_its_token_ids_give_the_same(client: TestClient, text_engine: Engine):
    ids = text_engine.inputs.encode(["what is my balance"])[0].tokens.tolist()
    by_text = outputs(ask(client, INFER, text("what is my balance")))["logits"]
    mask = [1] * len(ids) + [0, 0]
    padded = tensor("input_ids", [1, len(mask)], "INT64", data=[*ids, 0, 0])
    by_ids = outputs(
        ask(client, INFER, padded, tensor("attention_mask", [1, len(mask)], "INT32", data=[mask])),
    )["logits"]
    assert by_ids == pytest.approx(by_text, rel=1e-5)


def test_features_and_their_padding(feature_client: TestClient, feature_encoder: Encoder, feature_export: Export):
    sequences = [sequence for sequence in random_sequences(feature_export[1], 6) if len(sequence) < 12][:3]
    steps = max(map(len, sequences)) + 1
    padded = np.full((3, steps, 4), np.nan, dtype=np.float32)  # whatever is in the padding
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    response = ask_binary(
        feature_client,
        FEATURES,
        padded.tobytes() + lengths.tobytes(),
        binary("features", [3, steps, 4], "FP32", padded.nbytes),
        binary("lengths", [3], "INT64", 24),
    )
    expected = feature_encoder.run(sequences)
    np.testing.assert_allclose(np.reshape(outputs(response)["logits"], (3, 3)), expected.logits, rtol=1e-4, atol=1e-5)


def test_features_as_nested_json(feature_client: TestClient, feature_encoder: Encoder):
    sequence = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    for data in (sequence[None].tolist(), sequence.ravel().tolist()):
        found = outputs(ask(feature_client, FEATURES, tensor("features", [1, 2, 4], "FP32", data=data)))
        assert found["logits"] == pytest.approx(feature_encoder.run([sequence]).logits[0].tolist(), rel=1e-4)


def test_binary_outputs_follow_the_json(client: TestClient):
    response = ask_binary(
        client,
        INFER,
        elements(b"hi", b"snow"),
        binary("text", [2, 1], "BYTES", 14),
        parameters={"binary_data_output": True},
        outputs=[{"name": "label"}, {"name": "score", "parameters": {"binary_data": False}}, {"name": "embedding"}],
    )
    assert response.headers["content-type"] == "application/octet-stream"
    size = int(response.headers[HEADER])
    label, score, embedding = json.loads(response.content[:size])["outputs"]
    tail = response.content[size:]
    plain = outputs(ask(client, INFER, text("hi", "snow")))
    assert tail[: label["parameters"]["binary_data_size"]] == elements(*(one.encode() for one in plain["label"]))
    assert score["data"] == pytest.approx(plain["score"], rel=1e-5)
    rest = tail[label["parameters"]["binary_data_size"] :]
    assert len(rest) == embedding["parameters"]["binary_data_size"] == 2 * 16 * 4
    np.testing.assert_allclose(np.frombuffer(rest, "<f4"), plain["embedding"], rtol=1e-4, atol=1e-5)


def test_raw_body_is_one_text(client: TestClient):
    response = client.post(INFER, content=b"what is my balance", headers={HEADER: "0"})
    size = int(response.headers[HEADER])
    head = json.loads(response.content[:size])
    assert all(output["parameters"]["binary_data_size"] for output in head["outputs"])
    logits = np.frombuffer(response.content[size : size + 12], "<f4")
    assert logits.tolist() == pytest.approx(outputs(ask(client, INFER, text("what is my balance")))["logits"], rel=1e-5)


def test_raw_body_is_one_sequence(feature_client: TestClient, feature_encoder: Encoder):
    sequence = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    response = feature_client.post(FEATURES, content=sequence.tobytes(), headers={HEADER: "0"})
    size = int(response.headers[HEADER])
    logits = np.frombuffer(response.content[size : size + 12], "<f4")
    assert logits.tolist() == pytest.approx(feature_encoder.run([sequence]).logits[0].tolist(), rel=1e-4)
    assert_error(
        feature_client.post(FEATURES, content=b"123", headers={HEADER: "0"}), 400, "invalid_tensor", "features"
    )


@pytest.mark.parametrize(("coding", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_large_answers_are_compressed_as_accepted(client: TestClient, coding: str, read: Any):
    """The test's client would inflate them itself: the raw bytes are looked at."""
    with client.stream(
        "POST", INFER, json={"inputs": [text(*["hi"] * 8)]}, headers={"Accept-Encoding": coding}
    ) as response:
        content = b"".join(response.iter_raw())
    assert (response.headers["content-encoding"], response.headers["vary"]) == (coding, "Accept-Encoding")
    assert len(content) == int(response.headers["content-length"])
    assert len(json.loads(read(content))["outputs"]) == len(ALL)


def test_small_answers_and_other_paths_are_not_compressed(client: TestClient):
    small = client.post(INFER, json={"inputs": [text("hi")], "outputs": [{"name": "label"}]})
    assert "gzip" in small.request.headers["accept-encoding"]
    assert "content-encoding" not in small.headers
    assert "content-encoding" not in client.get("/v2/models/texts/norm-stats").headers


def test_truncated_rows_are_told(client: TestClient):
    assert ask(client, INFER, text("rain " * 50, "hi")).json()["parameters"] == {"truncated": 1}
    assert "parameters" not in ask(client, INFER, text("hi")).json()


def test_content_type_does_not_matter(client: TestClient):
    content = json.dumps({"inputs": [text("hi")]})
    for headers in ({}, {"Content-Type": "application/octet-stream"}, {"Content-Type": "text/plain"}):
        assert client.post(INFER, content=content, headers=headers).status_code == 200


def test_null_is_as_good_as_missing(client: TestClient):
    sent = text("hi") | {"parameters": None}
    body = ask(client, INFER, sent, id=None, parameters=None, outputs=None, surprise=1).json()
    assert "id" not in body and [output["name"] for output in body["outputs"]] == ALL


def test_timeout_is_in_microseconds(client: TestClient, monkeypatch: pytest.MonkeyPatch, text_engine: Engine):
    assert ask(client, INFER, text("hi"), parameters={"timeout": 60_000_000}).status_code == 200
    seen = []
    admit = text_engine.batcher.admit

    def watched(sequences: Any, receiver: Any, timeout: float | None) -> Any:
        seen.append(timeout)
        return admit(sequences, receiver, timeout)

    monkeypatch.setattr(text_engine.batcher, "admit", watched)
    ask(client, INFER, text("hi"), parameters={"timeout": 2_500_000})
    ask(client, INFER, text("hi"), parameters={"timeout": 0})
    assert seen == [2.5, None]
