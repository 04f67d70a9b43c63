"""Numbers and names of any length get an answer, and a short one."""

import json

import pytest
from starlette.testclient import TestClient

from tests.service.api.v2.asking import INFER, ask, tensor, text


@pytest.mark.parametrize("digits", [20, 310, 4300, 4301])
@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": [%s], "parameters": {"timeout": N}}',
        '{"inputs": [%s], "parameters": {"priority": N}}',
        '{"inputs": [%s], "outputs": [{"name": "logits", "parameters": {"classification": N}}]}',
        '{"inputs": [{"name": "text", "shape": [1, N, N], "datatype": "BYTES", "data": ["hi"]}]}',
        '{"inputs": [{"name": "input_ids", "shape": [1, 0, N], "datatype": "INT64", "data": []}]}',
        '{"inputs": [{"name": "input_ids", "shape": [1, 0, N], "datatype": "INT64", '
        '"parameters": {"binary_data_size": 0}}]}',
        '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": N}}]}',
    ],
)
def test_huge_numbers_are_refused(client: TestClient, body: str, digits: int):
    content = body.replace("%s", json.dumps(text("hi"))).replace("N", "9" * digits)
    response = client.post(INFER, content=content)
    assert response.status_code == 400, response.text
    assert len(response.json()["error"]) < 300


def test_what_was_sent_is_repeated_in_short(client: TestClient):
    long = "b" * 16_000
    for response in (
        ask(client, f"/v2/models/{long}/infer", text("hi")),
        ask(client, INFER, tensor(long, [1], "BYTES", data=["hi"])),
        ask(client, INFER, tensor("text", [1], long, data=["hi"])),
        ask(client, INFER, tensor("text", [1] * 8000, "BYTES", data=["hi"])),
        ask(client, INFER, text("hi"), outputs=[{"name": long}]),
        client.post("/embed", json={"inputs": "hi", "model": long}),
        client.post("/embed", json={"inputs": "hi", "prompt_name": long}),
        client.post("/embed", json={"inputs": "hi", long: 1}),
        client.get(f"/{long}"),
        client.put(f"/v2/models/{long}"),
        client.get("/norm-stats", params={"window": long}),
        client.get("/norm-stats", params={"from": long}),
        client.get(f"/norm-stats/{long}"),
        client.post("/embed", headers={"Content-Encoding": long}),
        client.post("/norm-stats/baseline", headers={"Origin": long}),
    ):
        assert response.status_code >= 400
        assert "bbb…" in response.text or "1, 1, …" in response.text, response.text[:200]
        assert len(response.json()["error"]) < 500
