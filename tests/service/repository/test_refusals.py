"""Changes of the repository that are refused: those that cannot be, and those of whoever may not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.repository.control import LocalParticipant, load_all
from service.settings import Settings
from tests.apps import make_app
from tests.helpers import publish
from tests.service.http.test_errors import assert_error


def control_of(directory: Path, artifact: Artifact) -> LocalParticipant:
    """Of a repository of texts/1 and texts/2."""
    for version in "12":
        publish(directory, "texts", version, artifact)
    return load_all(Settings(models=directory, device="cpu", workers=1, model_control="explicit"))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, text_artifact: Artifact) -> Iterator[TestClient]:
    """A service of that repository which nothing may change."""
    control = control_of(tmp_path_factory.mktemp("models"), text_artifact)
    with TestClient(make_app(control.settings, control.models, control)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("models/nowhere/load", "", 404, "unknown_model"),
        ("models/nowhere/unload", "", 404, "unknown_model"),
        ("models/..%2f..%2fetc/load", "", 404, "not_found"),
        ("models/.git/load", "", 400, "invalid_name"),
        ("models/%2e%2e/unload", "", 400, "invalid_name"),
        ("models/a%5cb/load", "", 400, "invalid_name"),
        ("models/texts/load", {"parameters": {"version": "../2"}}, 400, "invalid_name"),
        ("models/texts/load", {"parameters": {"version": "9"}}, 404, "unknown_model"),
        ("models/texts/load", {"parameters": {"config": "{}"}}, 400, "invalid_request"),
        ("models/texts/load", [], 400, "invalid_request"),
        ("index", {"ready": "perhaps"}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_is_refused(untouched: TestClient, path: str, body: object, status: int, code: str):
    content = json.dumps(body).encode() if body != "" else b""
    answer = untouched.post(f"/v2/repository/{path}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert untouched.post("/predict", json={"inputs": "hi"}).json()["version"] == "2"


def test_single_artifact_is_listed_and_cannot_be_changed(text_artifact: Artifact):
    settings = Settings(model=text_artifact.path, device="cpu", model_control="explicit")
    with TestClient(make_app(settings)) as client:
        (entry,) = client.post("/v2/repository/index").json()
        assert entry == {"name": "texts", "version": "1", "state": "READY", "reason": ""}
        for path in ("load", "unload"):
            answer = client.post(f"/v2/repository/models/texts/{path}")
            assert (answer.status_code, answer.json()["code"]) == (400, "no_repository")


def test_changes_over_http_are_off_by_default(text_artifact: Artifact, tmp_path: Path):
    control = control_of(tmp_path, text_artifact)
    settings = control.settings.model_copy(update={"model_control": "none"})
    with TestClient(make_app(settings, control.models, control)) as client:
        for path in ("load", "unload"):
            answer = client.post(f"/v2/repository/models/texts/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "model_control_off")
            assert "--model-control explicit" in answer.json()["error"]
        assert client.post("/predict", json={"inputs": "hi"}).status_code == 200


def test_changes_need_a_key_where_there_is_one(text_artifact: Artifact, tmp_path: Path):
    control = control_of(tmp_path, text_artifact)
    settings = control.settings.model_copy(update={"api_keys": "secret"})
    with TestClient(make_app(settings, control.models, control)) as client:
        for path in ("models/texts/load", "models/texts/unload"):
            assert client.post(f"/v2/repository/{path}").status_code == 401
            assert client.post(f"/v2/repository/{path}", headers={"X-API-Key": "secret"}).status_code == 200
        assert client.post("/v2/repository/index").status_code == 200


def test_names_that_are_no_text_spoil_no_answer(
    text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Of the repository itself, of a model and of a version."""
    directory = tmp_path / "\udcff"
    for place in ("texts/3", "texts/\udcff", "\udcff/1"):
        (directory / place).mkdir(parents=True)
    control = control_of(directory, text_artifact)
    with TestClient(make_app(control.settings, control.models, control)) as client:
        entries = client.post("/v2/repository/index").json()
        assert [(entry["version"], entry["state"]) for entry in entries] == [
            ("1", "READY"),
            ("2", "READY"),
            ("3", "UNAVAILABLE"),
        ]
        assert "\\udcff/texts/3" in entries[2]["reason"]
        response = client.post("/v2/repository/models/nope/load")
        assert_error(response, 404, "unknown_model", "'nope'", "\\udcff", "texts.")
    assert "\\udcff" in caplog.text.encode().decode()  # the log holds text alone, too
