"""A directory is there as a whole at every moment, and what a killed program left is put right."""

import sys
import time
from pathlib import Path

import pytest

from runtime import directories
from runtime.directories import ASIDE, OLD, STALE, put_in_place, tidy, written_aside

LEFT = f".1-abcd_123{ASIDE}"


def write(target: Path, content: str, overwrite: bool = True) -> bool:
    with written_aside(target) as aside:
        (aside / "file").write_text(content)
        return put_in_place(aside, target, overwrite)


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to write, on systems that can exchange names and on those that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(directories, "exchange", lambda *_: False)
    return tmp_path / "1"


def test_directory_is_replaced_only_where_that_is_asked_for(target: Path):
    assert write(target, "a", overwrite=False)
    assert not write(target, "b", overwrite=False)
    assert (target / "file").read_text() == "a"
    assert write(target, "c")
    assert (target / "file").read_text() == "c"
    assert names(target.parent) == ["1"]


@pytest.mark.parametrize("kind", ["file", "link", "link to nothing", "empty"])
def test_whatever_is_there_is_replaced_and_nothing_is_left(target: Path, tmp_path: Path, kind: str):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").touch()
    if kind == "file":
        target.touch()
    elif kind == "empty":
        target.mkdir()
    else:
        target.symlink_to("other" if kind == "link" else "nothing")
    assert write(target, "a")
    assert (target / "file").read_text() == "a"
    assert names(tmp_path) == ["1", "other"]
    assert names(tmp_path / "other") == ["mine"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges names")
def test_name_is_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No rename takes it away."""
    target, seen = tmp_path / "1", []
    assert write(target, "a")
    original = Path.rename

    def rename(path: Path, to: Path) -> Path:
        try:
            return original(path, to)
        finally:
            seen.append((target / "file").exists())

    monkeypatch.setattr(Path, "rename", rename)
    assert write(target, "b")
    assert seen == [True]


@pytest.mark.parametrize("content", ["theirs", None])
def test_others_that_write_between_two_renames_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
):
    """Or one puts back what it takes for the loss of a killed program."""
    monkeypatch.setattr(directories, "exchange", lambda *_: False)
    target, original, count = tmp_path / "1", Path.rename, 0
    assert write(target, "before")

    def rename(path: Path, to: Path) -> Path:
        nonlocal count
        done = original(path, to)
        count += to.name.endswith(OLD)
        if to.name.endswith(OLD) and count == 1:
            if content is None:
                tidy(target)
            else:
                assert write(target, content)
        return done

    monkeypatch.setattr(Path, "rename", rename)
    assert write(target, "mine")
    assert (target / "file").read_text() == "mine"
    assert names(tmp_path) == ["1"]


def test_what_a_kill_between_two_renames_took_away_is_put_back_the_last_one(tmp_path: Path):
    target = tmp_path / "1"
    for content in ("before", "last"):
        assert write(target, content)
        target.rename(tmp_path / f".1-{content:_<8}{ASIDE}{OLD}")
    tidy(target)
    assert (target / "file").read_text() == "last"
    assert names(tmp_path) == [f".1-before__{ASIDE}{OLD}", "1"]


def test_what_kills_left_is_removed_after_a_day_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    others = [".1-backup12", f".1-b-abcd_123{ASIDE}", f".2-abcd_123{ASIDE}", f".1-abcd_123{ASIDE}.txt", "1"]
    for name in (LEFT, LEFT + OLD, *others):
        (tmp_path / name).mkdir()
    (tmp_path / LEFT / "file").touch()
    tidy(tmp_path / "1")
    assert names(tmp_path) == sorted([LEFT, LEFT + OLD, *others])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + STALE + 60)
    tidy(tmp_path / "1")
    assert names(tmp_path) == sorted(others)


def test_place_that_cannot_be_listed_is_for_the_writer_to_tell(tmp_path: Path):
    tidy(tmp_path / "gone" / "1")
    (tmp_path / "file").touch()
    tidy(tmp_path / "file" / "1")
