import shutil
from pathlib import Path

import pytest

from service.repository.storage import Repository, RepositoryPoller


@pytest.fixture
def watch(tmp_path: Path) -> RepositoryPoller:
    for place in ("a/1", "b/1"):
        (tmp_path / place).mkdir(parents=True)
    return RepositoryPoller(Repository(tmp_path))


def test_nothing_changes_by_itself(watch: RepositoryPoller):
    assert watch.changed() == watch.changed() == []


def test_change_counts_once_and_when_it_stands_still(watch: RepositoryPoller, tmp_path: Path):
    (tmp_path / "a" / "2").mkdir()
    assert watch.changed() == []  # it may be on its way
    (tmp_path / "a" / "2" / "model.onnx").write_text("half of it")
    assert watch.changed() == []
    assert watch.changed() == ["a"]
    assert watch.changed() == []


def test_new_and_vanished_models_are_told(watch: RepositoryPoller, tmp_path: Path):
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "c" / "1").mkdir(parents=True)
    watch.changed()
    assert watch.changed() == ["a", "c"]
    assert watch.known.keys() == {"b", "c"}


def test_disk_that_is_away_is_no_change(watch: RepositoryPoller, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    aside = tmp_path.with_name(tmp_path.name + "-aside")
    tmp_path.rename(aside)
    assert watch.changed() == watch.changed() == []
    assert "cannot be read" in caplog.text
    tmp_path.mkdir()
    assert watch.changed() == watch.changed() == []
    tmp_path.rmdir()
    aside.rename(tmp_path)
    assert watch.changed() == watch.changed() == []
