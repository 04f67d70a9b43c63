"""The models of the answers: made of the OpenAPI snapshot, and what they read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from addnorm_client import models
from tests.clients.python.asking import Ask, Reply, stub
from tests.live import Live

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "clients" / "python"

# request -> what reads its answer
ANSWERS: dict[tuple[str, str, str], type[BaseModel]] = {
    ("POST", "/predict", '{"inputs": ["hi", "snow"], "norm_stats": true}'): models.PredictResponse,
    ("POST", "/embed", '{"inputs": "hi"}'): models.EmbedResponse,
    ("GET", "/norm-stats", ""): models.NormStatsResponse,
    ("GET", "/norm-stats?model=signals", ""): models.NormStatsResponse,
    ("GET", "/norm-stats/embeddings.norm", ""): models.LayerResponse,
    ("GET", "/model", ""): models.ModelResponse,
    ("GET", "/health/ready", ""): models.Ready,
    ("GET", "/traffic", ""): models.TrafficResponse,
}


def test_models_are_those_of_the_openapi_document(tmp_path: Path):
    subprocess.run([sys.executable, CLIENT / "generate_models.py", tmp_path], check=True)
    made, kept = (
        {path.name: path.read_bytes() for path in folder.glob("*.py")}
        for folder in (tmp_path, CLIENT / "src" / "addnorm_client" / "models")
    )
    assert made == kept, "make client-models brings them up to date"


@pytest.mark.parametrize("request_", ANSWERS, ids=lambda request: request[1])
def test_nothing_of_an_answer_is_lost(live: Live, request_: tuple[str, str, str]):
    method, path, body = request_
    answer = httpx.request(method, live.url + path, content=body)
    read = ANSWERS[request_].model_validate_json(answer.content)
    assert read.model_dump(mode="json", exclude_unset=True) == answer.json()


def test_answer_of_another_version_is_read(ask: Ask, live: Live):
    """A newer service says more; where an older one says nothing, that is as if it said null."""
    body = httpx.get(f"{live.url}/norm-stats").json()
    with stub(Reply(200, changed(body))) as server:
        answer = ask(server.url, lambda client: client.norm_stats())
    assert [layer.name for layer in answer.layers] == [layer["name"] for layer in body["layers"]]
    assert answer.verdict.since is None
    assert not hasattr(answer, "newer") and not hasattr(answer.layers[0].live, "newer")


def changed(node: Any) -> Any:
    """The same answer without its nulls, with a field more in every object."""
    if isinstance(node, dict):
        return {name: changed(value) for name, value in node.items() if value is not None} | {"newer": [1]}
    return [changed(part) for part in node] if isinstance(node, list) else node


def test_answers_are_values():
    candidate = models.Candidate(label="a", score=1.0)
    assert candidate == models.Candidate.model_validate_json(json.dumps({"label": "a", "score": 1.0}))
    with pytest.raises(ValueError, match="frozen"):
        candidate.score = 0.5
