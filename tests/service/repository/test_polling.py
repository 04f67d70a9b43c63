import shutil
from pathlib import Path

import pytest

from runtime.errors import RETRIES
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


def looks_until_due(watch: RepositoryPoller) -> int:
    return next(look for look in range(1, 1000) if watch.changed())


def test_what_failed_for_a_passing_reason_counts_again_after_ever_longer_and_not_for_ever(
    watch: RepositoryPoller, tmp_path: Path
):
    waits = []
    while watch.tried("a", RETRIES):
        waits.append(looks_until_due(watch))
    assert waits == [1 << tried for tried in range(RETRIES)]
    assert not any(watch.changed() for _ in range(300))
    (tmp_path / "a" / "2").mkdir()
    assert [watch.changed(), watch.changed()] == [[], ["a"]]
    assert watch.tried("a", RETRIES) and looks_until_due(watch) == 1  # it begins anew
    assert not watch.tried("a", 0) and not any(watch.changed() for _ in range(300))


def test_change_takes_the_place_of_another_try(watch: RepositoryPoller, tmp_path: Path):
    watch.tried("a", RETRIES)
    (tmp_path / "a" / "2").mkdir()
    assert [watch.changed() for _ in range(4)] == [[], ["a"], [], []]
