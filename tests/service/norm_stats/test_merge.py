"""States of several services, handed out over HTTP and merged into one report."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from addnorm.commands.stats import Asked, print_merged
from runtime.artifact import Artifact
from runtime.console import PlainConsole
from runtime.errors import StateError
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_app

TEXTS = ["what is my balance", "will it rain", "hi", "tell me the balance of my account", "and now"]


@pytest.fixture
def states(text_artifact: Artifact, tmp_path: Path) -> list[str]:
    """Two services' states, of two and of three texts."""
    paths = []
    for name, texts in (("a.json", TEXTS[:2]), ("b.json", TEXTS[2:])):
        settings = Settings(model=text_artifact.path, device="cpu")
        with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
            client.post("/predict", json={"inputs": texts})
            path = tmp_path / name
            path.write_bytes(client.get("/norm-stats/state").content)
        paths.append(str(path))
    return paths


def printed(sources: list[str], model: Path) -> str:
    console = PlainConsole(record=True, width=200)
    print_merged(sources, model, Asked(5), console)
    return console.export_text()


def test_merged_report_equals_one_service_with_all_traffic(
    states: list[str], text_artifact: Artifact, client: TestClient
):
    client.post("/predict", json={"inputs": TEXTS})
    alone = client.get("/norm-stats").json()
    report = printed(states, text_artifact.path)
    assert f"5 requests, {alone['tokens']} tokens" in report
    for layer in alone["layers"]:
        variance = layer["live"]["variance"]
        row = next(line for line in report.splitlines() if layer["name"] in line)
        assert f"{variance['mean']:.3g} ± {variance['std']:.2g}" in row


def test_order_does_not_matter(states: list[str], text_artifact: Artifact):
    assert printed(states, text_artifact.path) == printed(states[::-1], text_artifact.path)


def test_states_of_another_artifact_are_refused(states: list[str], feature_artifact: Artifact):
    with pytest.raises(StateError, match=r"a\.json is a state of texts version 1, not of this signals version 7"):
        printed(states, feature_artifact.path)


def test_unusable_sources_are_refused(states: list[str], text_artifact: Artifact, tmp_path: Path):
    with pytest.raises(StateError, match="nothing to merge"):
        printed([], text_artifact.path)
    with pytest.raises(StateError, match=r"absent\.json cannot be read"):
        printed([*states, str(tmp_path / "absent.json")], text_artifact.path)
    (tmp_path / "half.json").write_text(Path(states[0]).read_text()[:500])
    with pytest.raises(StateError, match=r"half\.json is not a state"):
        printed([str(tmp_path / "half.json")], text_artifact.path)


def test_state_that_is_named_twice_is_refused(states: list[str], text_artifact: Artifact, tmp_path: Path):
    (tmp_path / "copy.json").write_bytes(Path(states[0]).read_bytes())
    for again, first in ((states[0], states[0]), (str(tmp_path / "copy.json"), states[0])):
        with pytest.raises(StateError, match=f"{again} is the same state as {first}, expected each state once"):
            printed([*states, again], text_artifact.path)


@pytest.mark.parametrize("end", [float("nan"), float("inf"), 1e308, -1e308, -1, "soon"])
def test_state_of_no_time_is_refused(states: list[str], text_artifact: Artifact, end: object):
    state = json.loads(Path(states[0]).read_bytes())
    for name in ("from", "to"):
        Path(states[0]).write_text(json.dumps(state | {name: end}))
        with pytest.raises(StateError, match=r"a\.json is not a state of format"):
            printed(states, text_artifact.path)


def test_state_of_a_window_holds_its_traffic_only(client: TestClient, text_engine: Engine):
    now = [1.7e9]
    text_engine.collector.recorder.clock = lambda: now[0]
    client.post("/predict", json={"inputs": TEXTS[:2]})
    now[0] += 7200
    client.post("/predict", json={"inputs": TEXTS[2]})
    now[0] += 30
    whole, recent = (client.get("/norm-stats/state", params=p).json() for p in ({}, {"window": "5m"}))
    assert (whole["state"]["requests"], recent["state"]["requests"]) == (3, 1)
    assert json.dumps(recent).count("what is my balance") == 0


def test_compare_measures_one_window_against_another(client: TestClient, text_engine: Engine):
    now = [1.7e9]
    text_engine.collector.recorder.clock = lambda: now[0]
    client.post("/predict", json={"inputs": TEXTS})
    now[0] += 7200
    client.post("/predict", json={"inputs": ["zzzz qqqq xxxx"] * 3})
    now[0] += 30
    found = client.get("/norm-stats/compare", params={"window": "5m"}).json()
    assert (found["window"]["requests"], found["against"]["requests"]) == (3, 8)
    assert [layer["name"] for layer in found["layers"]] == text_engine.manifest.layer_names
    assert any(layer["psi"] > 0.1 for layer in found["layers"])
    same = client.get("/norm-stats/compare", params={"window": "24h"}).json()
    assert all(layer["mean_shift"] == layer["psi"] == 0 for layer in same["layers"])
    nothing = client.get("/norm-stats/compare", params={"window": "5m", "against": "1x"})
    assert (nothing.status_code, nothing.json()["code"]) == (400, "invalid_window")


def test_compare_with_an_empty_window_says_null(client: TestClient):
    found = client.get("/norm-stats/compare").json()
    assert all(layer["psi"] is None for layer in found["layers"])
