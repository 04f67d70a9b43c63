import os
import shutil
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput, SettingError, UnknownModel
from runtime.manifest import MODEL
from service.repository.storage import Repository
from tests.helpers import publish


def make(directory: Path, *places: str) -> Repository:
    for place in places:
        (directory / place).mkdir(parents=True)
    return Repository(directory)


def test_models_are_listed_by_name_and_versions_by_number(tmp_path: Path):
    found = make(tmp_path, "b/1", "a/9", "a/10", "a/beta", "empty").scan()
    assert found == {"a": ["beta", "9", "10"], "b": ["1"]}
    assert list(found) == ["a", "b"]


def test_hidden_directories_and_files_are_no_versions(tmp_path: Path):
    repository = make(tmp_path, "a/1", "a/.2-h4lf", ".git/1", "..data/1")
    (tmp_path / "a" / "3").write_text("a file")
    assert repository.scan() == {"a": ["1"]}


@pytest.mark.parametrize("name", ["\udcff", "a\\b"])
def test_directories_that_nobody_can_ask_for_are_left_out_with_one_warning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    repository = make(tmp_path, "a/1", f"{name}/1", f"a/{name}")
    for _ in range(3):
        assert repository.scan() == {"a": ["1"]}
        assert repository.signatures().keys() == {"a"}
    with pytest.raises(UnknownModel, match=r"there is a\.$"):
        repository.versions("b")
    warnings = [record.getMessage() for record in caplog.records]
    assert [f"in {place} is left out" in said for place, said in zip((tmp_path, tmp_path / "a"), warnings, strict=True)]


def test_linked_directories_are_followed(tmp_path: Path):
    repository = make(tmp_path, "elsewhere/1", "models/a")
    (tmp_path / "models" / "a" / "2").symlink_to(tmp_path / "elsewhere" / "1")
    assert Repository(tmp_path / "models").versions("a") == ["2"]
    assert repository.versions("elsewhere") == ["1"]


def test_directory_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(SettingError, match="nowhere cannot be read"):
        Repository(tmp_path / "nowhere").scan()


def test_what_cannot_be_read_fails_alone(tmp_path: Path, text_artifact: Artifact):
    """A link to itself as a version and as a model, and a pipe that nobody writes to in the place of a file."""
    publish(tmp_path, "texts", "1", text_artifact)
    for loop in (tmp_path / "texts" / "2", tmp_path / "loop"):
        loop.symlink_to(loop)
    for name in ("manifest.json", MODEL):
        publish(tmp_path, "pipes", name, text_artifact)
        (tmp_path / "pipes" / name / name).unlink()
        os.mkfifo(tmp_path / "pipes" / name / name)
    repository = Repository(tmp_path)
    assert repository.scan() == {"pipes": ["manifest.json", MODEL], "texts": ["1", "2"]}
    assert repository.signatures().keys() == {"pipes", "texts"}
    assert repository.read("texts", "1").manifest.name == "texts"
    for name, version, reason in (
        ("texts", "2", "Too many levels of symbolic links"),
        ("pipes", "manifest.json", "not a regular file"),
        ("pipes", MODEL, "not a regular file"),
    ):
        with pytest.raises(ArtifactError, match=reason):
            repository.read(name, version)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/1", "a\\1", ".hidden", "a\0", "\udcff"])
def test_name_that_is_no_directory_is_refused_before_it_is_looked_up(tmp_path: Path, name: str):
    with pytest.raises(InvalidInput, match="names no model") as caught:
        make(tmp_path, "a/1").versions(name)
    assert caught.value.code == "invalid_name"


def test_unknown_model_is_told_which_there_are(tmp_path: Path):
    with pytest.raises(UnknownModel, match=r"There is no model 'c' in .*, there is a, b\."):
        make(tmp_path, "a/1", "b/1").versions("c")


def test_artifact_is_read_where_its_manifest_says(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts.v2", "1.0-rc1", text_artifact)
    repository = Repository(tmp_path)
    artifact = repository.read("texts.v2", "1.0-rc1")
    assert (artifact.manifest.name, artifact.manifest.version) == ("texts.v2", "1.0-rc1")
    assert repository.digest("texts.v2", "1.0-rc1") == artifact.manifest.digest


@pytest.mark.parametrize("place", ["texts/2", "others/1"])
def test_directory_that_disagrees_with_its_manifest_is_refused(text_artifact: Artifact, tmp_path: Path, place: str):
    shutil.copytree(text_artifact.path, tmp_path / place)
    with pytest.raises(ArtifactError, match=rf"{place} holds texts/1, as its manifest says: move it there, or export"):
        Repository(tmp_path).read(*place.split("/"))


def test_signature_tells_every_change_of_a_file(tmp_path: Path):
    repository = make(tmp_path, "a/1", "b/1")
    seen = [repository.signatures()]
    (tmp_path / "a" / "1" / "model.onnx").write_text("x")
    seen.append(repository.signatures())
    (tmp_path / "a" / "1" / "model.onnx").write_text("xy")
    seen.append(repository.signatures())
    os.utime(tmp_path / "a" / "1" / "model.onnx", ns=(1, 1))
    seen.append(repository.signatures())
    assert len({one["a"] for one in seen}) == 4
    assert len({one["b"] for one in seen}) == 1
