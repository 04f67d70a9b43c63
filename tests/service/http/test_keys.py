from pathlib import Path

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import SettingError
from service.http.admission import ApiKeys
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_app
from tests.conftest import settings_for


def client_with(artifact: Artifact, engine: Engine, **changes: object) -> TestClient:
    return TestClient(make_app(settings_for(artifact).model_copy(update=changes), ModelRegistry(engine)))


def status(client: TestClient, **headers: str) -> tuple[int, str]:
    response = client.delete("/norm-stats/baseline", headers={k.replace("_", "-"): v for k, v in headers.items()})
    return response.status_code, response.json()["code"]


def test_without_keys_everybody_may_change_state(text_artifact: Artifact, text_engine: Engine):
    assert status(client_with(text_artifact, text_engine)) == (409, "no_live_baseline")


def test_with_keys_one_of_them_is_needed(text_artifact: Artifact, text_engine: Engine, tmp_path: Path):
    (tmp_path / "keys").write_text("third\n\n fourth \n")
    client = client_with(text_artifact, text_engine, api_keys="first, second", api_keys_file=tmp_path / "keys")
    for key in ("first", "second", "third", "fourth"):
        assert status(client, Authorization=f"Bearer {key}")[0] == 409
        assert status(client, X_API_Key=key)[0] == 409
    for headers in ({}, {"Authorization": "Bearer firs"}, {"Authorization": "Basic first"}, {"X_API_Key": ""}):
        assert status(client, **headers) == (401, "unauthorized")
    assert client.post("/norm-stats/baseline").headers["www-authenticate"] == "Bearer"
    assert client.get("/norm-stats").status_code == 200


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_unusable_key_file_is_refused(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingError, match=r"keys (cannot be read|holds no API key)"):
        ApiKeys.of(Settings(api_keys_file=tmp_path / "keys"))


@pytest.mark.parametrize("setting", ["api_keys", "inference_keys"])
@pytest.mark.parametrize(("listed", "words"), [(" , ", "no API key"), (" ", "no API key"), ("a,\udcff", "UTF-8")])
def test_keys_that_are_none_are_refused_and_not_shown(setting: str, listed: str, words: str):
    """Nobody would need a key."""
    with pytest.raises(SettingError, match=rf"^{setting} holds .*{words}") as caught:
        ApiKeys.of(Settings(**{setting: listed}))
    assert "udcff" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
