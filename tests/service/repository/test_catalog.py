import shutil
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import AddNormError, ArtifactError, InvalidInput, SettingError, UnknownModel
from runtime.manifest import MODEL
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.loader import run_at_once
from service.repository.planner import Changes, Planner
from service.settings import Settings
from tests.helpers import publish


@pytest.fixture
def directory(tmp_path: Path, text_artifact: Artifact) -> Path:
    """A repository of a/8, a/9, a/10 and b/1."""
    for name, version in (("a", "8"), ("a", "9"), ("a", "10"), ("b", "1")):
        publish(tmp_path, name, version, text_artifact)
    return tmp_path


def spoil(directory: Path, name: str, version: str) -> None:
    (directory / name / version / MODEL).write_bytes(b"half")


def opened(directory: Path, **settings: object) -> Catalog:
    return Catalog.open(Settings(models=directory, **settings))


def served(catalog: Catalog) -> dict[str, list[str]]:
    return {name: sorted(versions) for name, versions in catalog.served.items()}


@pytest.mark.parametrize(("keep", "versions"), [(1, ["10"]), (2, ["10", "9"]), (0, ["10", "8", "9"])])
def test_highest_versions_are_served_as_many_as_the_settings_say(directory: Path, keep: int, versions: list[str]):
    assert served(opened(directory, keep_versions=keep)) == {"a": versions, "b": ["1"]}


def test_default_model_is_the_first_by_name_or_the_one_that_is_set(directory: Path, text_artifact: Artifact):
    catalog = opened(directory)
    assert (catalog.default_name, opened(directory, default_model="b").default_name) == ("a", "b")
    catalog.settle()
    publish(directory, "A", "1", text_artifact)
    catalog.commit(catalog.load("A"))
    assert catalog.default_name == "a"
    with pytest.raises(SettingError, match=r"default_model is 'c', there is A, a, b in"):
        opened(directory, default_model="c")


def test_start_goes_without_what_is_broken_and_says_why(directory: Path, caplog: pytest.LogCaptureFixture):
    spoil(directory, "a", "10")
    spoil(directory, "b", "1")
    catalog = opened(directory)
    assert served(catalog) == {"a": ["8", "9"]}
    assert "b version 1 cannot be served: " in caplog.text
    entries = {(entry["name"], entry["version"]): entry for entry in catalog.index(catalog.scan())}
    assert [key for key, entry in entries.items() if entry["state"] == "READY"] == [("a", "8"), ("a", "9")]
    assert "4 bytes in the place of" in entries["a", "10"]["reason"] and not entries["a", "9"]["reason"]
    assert [entry["version"] for entry in catalog.index({})] == ["8", "9"]


def test_start_without_anything_that_works_is_refused(directory: Path, tmp_path_factory: pytest.TempPathFactory):
    shutil.rmtree(directory / "a")
    spoil(directory, "b", "1")
    with pytest.raises(ArtifactError, match=r"No model in .* can be served: .* in the place of"):
        opened(directory)
    with pytest.raises(SettingError, match="holds no model, expected NAME/VERSION/"):
        opened(tmp_path_factory.mktemp("empty"))
    with pytest.raises(SettingError, match="cannot be read"):
        opened(directory / "nowhere")
    with pytest.raises(ArtifactError, match=r"No model in .* can be served"):  # though it would see a better one
        opened(directory, watch=1.0)


def test_a_watched_repository_may_be_empty_at_the_start(tmp_path: Path, text_artifact: Artifact):
    catalog = opened(tmp_path, watch=1.0)
    assert served(catalog) == {} and catalog.default_name == ""
    publish(tmp_path, "a", "3", text_artifact)
    catalog.commit(catalog.follow("a"))
    assert served(catalog) == {"a": ["3"]} and catalog.default_name == "a"


def test_the_first_model_of_an_empty_repository_stays_the_default(tmp_path: Path, text_artifact: Artifact):
    catalog = opened(tmp_path, watch=1.0)
    catalog.settle()
    for name in ("m", "a"):
        publish(tmp_path, name, "1", text_artifact)
        catalog.commit(catalog.follow(name))
    assert list(served(catalog)) == ["a", "m"] and catalog.default_name == "m"


def test_load_reads_only_what_changed(directory: Path, text_artifact: Artifact):
    catalog = opened(directory)
    before = catalog.served["a"]
    assert catalog.load("a").fresh == []
    publish(directory, "a", "10", text_artifact, {"notes.txt": b"exported anew"})
    publish(directory, "a", "11", text_artifact)
    change = catalog.load("a")
    assert sorted(change.artifacts) == ["10", "11"] and change.required == "11"
    assert [artifact.manifest.version for artifact in change.fresh] == ["11", "10"]
    assert catalog.served["a"] is before  # until it is made so
    catalog.commit(change)
    assert "notes.txt" in catalog.served["a"]["10"].files


def test_version_by_its_number_comes_on_top_until_the_next_load(directory: Path):
    catalog = opened(directory)
    catalog.commit(catalog.load("a", "8"))
    assert served(catalog)["a"] == ["10", "8", "9"]
    catalog.commit(catalog.load("a"))
    assert served(catalog)["a"] == ["10", "9"]


def test_version_by_its_number_outlasts_what_is_put_into_the_repository(directory: Path, text_artifact: Artifact):
    catalog = opened(directory, keep_versions=1)
    for version in ("8", "9"):
        catalog.commit(catalog.load("a", version))
    publish(directory, "a", "11", text_artifact)
    catalog.commit(catalog.follow("a"))
    assert served(catalog)["a"] == ["11", "8", "9"]
    publish(directory, "a", "8", text_artifact, {"notes.txt": b"exported anew"})
    shutil.rmtree(directory / "a" / "9")
    change = catalog.follow("a")
    assert [artifact.manifest.version for artifact in change.fresh] == ["8"] and change.required == "11"
    catalog.commit(change)
    catalog.commit(catalog.reconcile("a"))
    assert served(catalog)["a"] == ["11", "8"]
    catalog.commit(catalog.unload("a"))
    catalog.commit(catalog.follow("a"))
    assert served(catalog)["a"] == ["11"]


def test_broken_highest_version_is_an_error_and_a_broken_lower_one_is_not(directory: Path, text_artifact: Artifact):
    catalog = opened(directory)
    spoil(publish(directory, "a", "11", text_artifact).parents[1], "a", "11")
    with pytest.raises(ArtifactError, match="in the place of"):
        catalog.load("a")
    publish(directory, "a", "12", text_artifact)
    assert sorted(catalog.load("a").artifacts) == ["10", "12"]


def test_version_that_cannot_run_is_left_out_until_it_is_asked_for_or_changes(directory: Path, text_artifact: Artifact):
    catalog = opened(directory, keep_versions=0)
    publish(directory, "a", "11", text_artifact)
    publish(directory, "a", "12", text_artifact)
    change = catalog.load("a")
    catalog.reject(change, {change.artifacts["11"].manifest.digest: ArtifactError("Its canary is ill.")})
    assert sorted(catalog.load("a").artifacts) == ["10", "12", "8", "9"]
    assert "11" in catalog.load("a", "11").artifacts
    with pytest.raises(ArtifactError, match="Its canary is ill"):
        catalog.reject(change, {change.artifacts["12"].manifest.digest: ArtifactError("Its canary is ill.")})
    publish(directory, "a", "11", text_artifact, {"notes.txt": b"mended"})
    publish(directory, "a", "12", text_artifact, {"notes.txt": b"mended"})
    catalog.commit(catalog.load("a"))
    assert {entry["reason"] for entry in catalog.index(catalog.scan())} == {""}


@pytest.mark.parametrize(
    ("error", "name", "version"),
    [
        (UnknownModel, "c", None),
        (UnknownModel, "a", "99"),
        (InvalidInput, "../a", None),
        (InvalidInput, "a", "../../b/1"),
        (InvalidInput, "a", ".."),
    ],
)
def test_what_is_not_there_cannot_be_loaded(directory: Path, error: type[Exception], name: str, version: str | None):
    with pytest.raises(error):
        opened(directory).load(name, version)


def test_unloaded_model_is_unavailable_and_cannot_be_unloaded_again(directory: Path):
    catalog = opened(directory)
    catalog.commit(catalog.unload("b"))
    assert [entry["state"] for entry in catalog.index(catalog.scan()) if entry["name"] == "b"] == ["UNAVAILABLE"]
    with pytest.raises(UnknownModel, match="'b' is not loaded, a is"):
        catalog.unload("b")


def test_single_artifact_is_listed_and_stays(text_artifact: Artifact):
    catalog = Catalog.open(Settings(model=text_artifact.path))
    assert [(entry["name"], entry["state"]) for entry in catalog.index(catalog.scan())] == [("texts", "READY")]
    for change in (catalog.load, catalog.unload):
        with pytest.raises(InvalidInput, match="start with `--models DIRECTORY`") as caught:
            change("texts")
        assert caught.value.code == "no_repository"


def test_content_can_be_let_go(directory: Path):
    catalog = opened(directory)
    digests = [artifact.manifest.digest for artifact in catalog.artifacts()]
    catalog.release_contents()
    assert [artifact.files for artifact in catalog.artifacts()] == [{}] * 3
    assert [artifact.manifest.digest for artifact in catalog.artifacts()] == digests
    assert catalog.load("a").fresh == []


def test_watched_repository_says_what_is_to_be_done(directory: Path, text_artifact: Artifact):
    catalog = opened(directory, watch=1.0)
    due: list[Changes | AddNormError] = []
    planner = Planner(catalog, CollectorPool(Settings()), run_at_once, run_at_once)
    planner.look(due.append)
    publish(directory, "c", "1", text_artifact)
    shutil.rmtree(directory / "b")
    planner.look(due.append)
    planner.look(due.append)
    assert due == [[], [], [(Catalog.follow, "c"), (Catalog.unload, "b")]]
