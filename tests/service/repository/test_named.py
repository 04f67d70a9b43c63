"""One artifact that is served under another name, or out of a directory that holds it at NAME/VERSION/."""

import shutil
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput, SettingError
from runtime.manifest import MANIFEST
from service.repository.catalog import Catalog
from service.settings import Settings
from tests.serving import served


def opened(directory: Path, name: str | None = None) -> Artifact:
    (artifact,) = Catalog.open(Settings(model=directory, name=name)).artifacts()
    return artifact


def copied(artifact: Artifact, *places: Path) -> None:
    for place in places:
        shutil.copytree(artifact.path, place)


@pytest.mark.parametrize("place", [".", "1", "texts/1"])
def test_only_artifact_is_found_wherever_it_lies(text_artifact: Artifact, tmp_path: Path, place: str) -> None:
    directory = tmp_path / "models"
    copied(text_artifact, directory / place)
    for name in (".aside/1", "notes"):  # nothing that is served
        (directory / name).mkdir(parents=True)
    found = opened(directory)
    assert found.manifest == text_artifact.manifest and found.path == directory / place


def test_name_changes_nothing_else(text_artifact: Artifact, tmp_path: Path) -> None:
    copied(text_artifact, tmp_path / "texts" / "1")
    found = opened(tmp_path, "reviews")
    assert found.manifest.name == "reviews"
    assert found.manifest.digest == text_artifact.manifest.digest
    assert found.manifest.model_copy(update={"name": "texts"}) == text_artifact.manifest
    assert list(Catalog.open(Settings(model=tmp_path, name="reviews")).served) == ["reviews"]


def test_directory_without_or_with_several_is_refused(text_artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"holds no artifact: expected manifest.json in it, or in the one NAME/VERS"
    ):
        opened(tmp_path)
    copied(text_artifact, tmp_path / "texts" / "1", tmp_path / "texts" / "2")
    with pytest.raises(ArtifactError, match=r"more than one artifact \(texts/1, texts/2\): name one, or .* --models"):
        opened(tmp_path)
    with pytest.raises(ArtifactError, match="No artifact at"):
        opened(tmp_path / "nowhere")
    (tmp_path / "texts" / "2" / MANIFEST).unlink()  # half of one is none
    assert opened(tmp_path).path == tmp_path / "texts" / "1"


@pytest.mark.parametrize("name", ["a/b", ".a", "", "a\0b", "\udcff"])
def test_name_that_no_model_can_have_is_refused(text_artifact: Artifact, name: str) -> None:
    with pytest.raises((InvalidInput, ValidationError), match=r"names no model|is no name"):
        opened(text_artifact.path, name)


def test_name_without_an_artifact_is_refused() -> None:
    with pytest.raises(SettingError, match=r"name is for one artifact: name its directory with model, too, or"):
        Catalog.open(Settings(name="reviews"))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_endpoint_knows_it_by_that_name_and_finds_its_statistics_again(
    text_artifact: Artifact, tmp_path: Path, workers: str
) -> None:
    options = ("--model", str(text_artifact.path), "--state", str(tmp_path), "--workers", workers)
    with served(*options) as url:
        httpx.post(f"{url}/predict", json={"inputs": "hi"}, trust_env=False).raise_for_status()
    with served(*options, "--name", "reviews") as url, httpx.Client(base_url=url, trust_env=False) as client:
        stats = client.get("/norm-stats").json()
        assert (stats["model"], stats["requests"]) == ("reviews", 1)  # kept by the digest, which is the same
        assert client.post("/predict", json={"inputs": "hi", "model": "reviews"}).json()["model"] == "reviews"
        assert client.post("/predict", json={"inputs": "hi", "model": "texts"}).status_code == 404
        assert client.get("/model", params={"name": "reviews"}).json()["model"] == "reviews"
        assert client.get("/health/ready").json()["models"] == {"reviews": ["1"]}
        assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["reviews", "reviews:1"]
        assert client.get("/v2/models/reviews").json()["name"] == "reviews"
        assert client.get("/v2/models/reviews/ready").json() == {"name": "reviews", "ready": True}
        assert client.get("/v2/models/texts/ready").status_code == 404
        asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}
        assert client.post("/v2/models/reviews/infer", json=asked).json()["model_name"] == "reviews"
        (entry,) = client.post("/v2/repository/index").json()
        assert (entry["name"], entry["state"]) == ("reviews", "READY")
        assert 'model="reviews"' in client.get("/metrics").text and 'model="texts"' not in client.get("/metrics").text
