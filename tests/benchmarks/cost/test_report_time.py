"""A day of made-up traffic is kept, and reported on."""

from pathlib import Path

import pytest

from benchmarks.cost import report_time
from runtime.artifact import read_artifact
from runtime.store.kept import read_kept
from service.norm_stats.collector import Collector
from service.settings import EMBEDDED, Settings


def test_what_a_day_takes_on_disk_is_of_what_was_kept(tmp_path: Path) -> None:
    artifact = read_artifact(EMBEDDED)
    collector = Collector(artifact, Settings(device="cpu", state=tmp_path))
    assert report_time.kept_bytes(collector, tmp_path) > 0
    collector.close()
    (file,) = tmp_path.iterdir()
    assert read_kept(file).check(artifact.manifest, str(file)).document.state.requests == 0


def test_every_window_is_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(report_time, "DAY", 12 * report_time.STEP)
    monkeypatch.setattr(report_time, "TIMES", 2)
    report_time.main()
    printed = capsys.readouterr().out
    assert all(window in printed for window in report_time.WINDOWS)
    assert printed.count("48") >= len(report_time.WINDOWS) and "MB on disk" in printed
