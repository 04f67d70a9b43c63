"""Triton's client, as it is published, against a real server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.helpers import LABELS
from tests.live import Live

TEXTS = ["what is my balance", "will it rain"]


@pytest.fixture
def client(live: Live) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(live.address) as client:
        yield client


def text_input(*texts: str, binary: bool = True) -> triton.InferInput:
    sent = triton.InferInput("text", [len(texts)], "BYTES")
    sent.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
    return sent


def feature_input(values: np.ndarray, binary: bool = True) -> triton.InferInput:
    sent = triton.InferInput("features", list(values.shape), "FP32")
    sent.set_data_from_numpy(values, binary_data=binary)
    return sent


FEATURES = np.linspace(-1, 1, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)


def test_server_and_models_describe_themselves(client: triton.InferenceServerClient):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("texts") and client.is_model_ready("signals", "7")
    assert not client.is_model_ready("nope") and not client.is_model_ready("texts", "9")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("signals")["inputs"] == [
        {"name": "features", "datatype": "FP32", "shape": [-1, -1, 4]}
    ]
    assert client.get_model_config("texts", "1")["max_batch_size"] == 8


@pytest.mark.parametrize("binary", [True, False])
def test_texts_are_classified(client: triton.InferenceServerClient, live: Live, binary: bool):
    result = client.infer("texts", [text_input(*TEXTS, binary=binary)], request_id="42")
    logits = result.as_numpy("logits")
    assert logits.shape == (2, 3) and logits.dtype == np.float32
    engine = live.models.find("texts")
    batch = engine.encoder.run([item.tokens for item in engine.inputs.encode(TEXTS)])
    np.testing.assert_allclose(logits, batch.logits, rtol=1e-4, atol=1e-5)
    assert [label.decode() for label in result.as_numpy("label")] == [LABELS[best] for best in batch.classes]
    assert result.as_numpy("embedding").shape == (2, 16)
    assert result.get_response()["id"] == "42"


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_that_are_asked_for_come_either_way(client: triton.InferenceServerClient, binary: bool):
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("norm_statistics", "label", "score")]
    result = client.infer("texts", [text_input(*TEXTS)], outputs=wanted, model_version="1")
    assert result.as_numpy("norm_statistics").shape == (2, 5, 2)
    assert (result.as_numpy("norm_statistics")[:, :, 1] > 0).all()
    assert result.as_numpy("logits") is None
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("label")]
    assert set(labels) <= set(LABELS)


def test_classes_are_ranked(client: triton.InferenceServerClient):
    wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
    ranked = client.infer("texts", [text_input("hi")], outputs=wanted).as_numpy("probabilities")
    assert ranked.shape == (1, 2)
    values = [float(entry.decode().split(":")[0]) for entry in ranked[0]]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("binary", [True, False])
def test_features_are_classified(client: triton.InferenceServerClient, live: Live, binary: bool):
    result = client.infer("signals", [feature_input(FEATURES, binary)])
    batch = live.models.find("signals").encoder.run(list(FEATURES))
    np.testing.assert_allclose(result.as_numpy("logits"), batch.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression_both_ways(client: triton.InferenceServerClient, coding: str):
    plain = client.infer("texts", [text_input(*["hi"] * 8)])
    packed = client.infer(
        "texts",
        [text_input(*["hi"] * 8)],
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    np.testing.assert_allclose(packed.as_numpy("embedding"), plain.as_numpy("embedding"), rtol=1e-5)


def test_statistics_count_rows_and_batches(client: triton.InferenceServerClient):
    def counts() -> tuple[int, int, int]:
        (model,) = client.get_inference_statistics("texts", "1")["model_stats"]
        return (
            model["inference_count"],
            model["execution_count"],
            model["inference_stats"]["success"]["count"],
        )

    before = counts()
    client.infer("texts", [text_input(*["hi"] * 6)])
    assert tuple(np.subtract(counts(), before)) == (6, 1, 1)
    assert [model["name"] for model in client.get_inference_statistics()["model_stats"]] == ["texts", "signals"]


@pytest.mark.parametrize(
    ("model", "sent", "status", "words"),
    [
        ("nope", text_input("hi"), "404", "'nope'"),
        ("te/xts", text_input("hi"), "404", "There is no /v2"),
        ("texts", text_input(""), "400", "text[0] is empty"),
        ("texts", feature_input(FEATURES), "400", "'features'"),
        ("texts", text_input("a" * 200_000), "413", "100000 bytes"),
        ("signals", feature_input(np.full((1, 1, 4), np.nan, np.float32)), "400", "features[0]"),
    ],
)
def test_errors_are_the_servers_sentences_and_the_connection_goes_on(
    client: triton.InferenceServerClient, model: str, sent: triton.InferInput, status: str, words: str
):
    with pytest.raises(InferenceServerException) as error:
        client.infer(model, [sent])
    assert error.value.status() == status
    assert words in error.value.message()
    assert client.infer("texts", [text_input("hi")]).as_numpy("label").shape == (1,)


def test_defect_leaves_the_connection_usable(
    client: triton.InferenceServerClient, live: Live, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(live.models.find("texts").encoder, "run", lambda _: 1 / 0)
        patch.setattr("service.api.v2.routes.model_config", lambda _: 1 / 0)
        for ask in (lambda: client.infer("texts", [text_input("hi")]), lambda: client.get_model_config("texts")):
            with pytest.raises(InferenceServerException, match="defect"):
                ask()
    assert client.infer("texts", [text_input("hi")]).as_numpy("label").shape == (1,)
    assert client.get_model_config("texts")["name"] == "texts"


def test_sequences_and_priorities_are_refused(client: triton.InferenceServerClient):
    for more in ({"sequence_id": 3, "sequence_start": True}, {"priority": 2}):
        with pytest.raises(InferenceServerException) as error:
            client.infer("texts", [text_input("hi")], **more)
        assert error.value.status() == "501"
    with pytest.raises(InferenceServerException) as error:
        client.infer("texts", [text_input("hi")], timeout=1)
    assert error.value.status() == "504"


def test_many_at_once_share_batches(live: Live):
    engine = live.models.find("texts")
    with triton.InferenceServerClient(live.address, concurrency=4) as client:
        before = engine.counts.requests
        asked = [client.async_infer("texts", [text_input(TEXTS[i % 2])], request_id=str(i)) for i in range(16)]
        assert [one.get_result().get_response()["id"] for one in asked] == [str(i) for i in range(16)]
    assert engine.counts.requests - before == 16


def test_aio_client_asks_the_same(live: Live):
    async def main() -> None:
        async with triton_aio.InferenceServerClient(live.address) as client:
            assert await client.is_server_live() and await client.is_model_ready("texts")
            assert (await client.get_server_metadata())["name"] == "addnorm"
            assert (await client.get_model_metadata("texts"))["name"] == "texts"
            assert (await client.get_model_config("signals"))["name"] == "signals"
            assert (await client.get_inference_statistics("texts"))["model_stats"][0]["name"] == "texts"
            answers: list[Any] = await asyncio.gather(
                client.infer("texts", [text_input(*TEXTS)]),
                client.infer("texts", [text_input(*TEXTS, binary=False)]),
                client.infer("texts", [text_input(*TEXTS * 4)], response_compression_algorithm="gzip"),
                client.infer("signals", [feature_input(FEATURES)], request_compression_algorithm="deflate"),
            )
            assert [answer.as_numpy("logits").shape for answer in answers] == [(2, 3), (2, 3), (8, 3), (3, 3)]
            with pytest.raises(InferenceServerException, match="text\\[0\\] is empty"):
                await client.infer("texts", [text_input("")])

    asyncio.run(main())
