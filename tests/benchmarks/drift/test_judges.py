"""Judges on windows from a known world. Evidently itself is not installed here; what is sent to it is."""

import json
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.drift import judges
from benchmarks.drift.judges import LEVEL, column_groups, evidently, evidently_python, ks, outside_judges
from runtime.drift.numbers import request_features
from runtime.graph.encoder import Encoder
from tests.helpers import Export, random_sequences

LAYERS, COLUMNS = 3, 11
VALIDATION = np.random.default_rng(0).normal(size=(1500, COLUMNS))


def windows(count: int, size: int, shift: float, columns: slice) -> list[np.ndarray]:
    drawn = np.random.default_rng(1).normal(size=(count, size, COLUMNS))
    drawn[..., columns] += shift
    return list(drawn)


def test_column_groups_cover_what_a_request_gives(text_export: Export, text_encoder: Encoder) -> None:
    features, _ = request_features(text_encoder.run(random_sequences(text_export[1], 5)))
    groups = column_groups(len(text_encoder.manifest.layers), features.shape[1])
    covered = np.concatenate([np.arange(features.shape[1])[group] for group in groups.values()])
    assert sorted(covered) == list(range(features.shape[1]))


def test_ks_seldom_alarms_at_the_validation_datas_own_distribution() -> None:
    assert ks(windows(300, 50, 0.0, slice(None)), VALIDATION).mean() <= 3 * LEVEL


def test_ks_alarms_at_the_columns_that_moved_only() -> None:
    groups = column_groups(LAYERS, COLUMNS)
    moved = windows(20, 100, 1.0, groups["output"])
    alarms = {name: judge(moved, VALIDATION) for name, judge in outside_judges(LAYERS, COLUMNS).items()}
    assert alarms["KS, output"].all()
    assert alarms["KS, norms"].sum() <= 1


def test_evidently_is_sent_every_window_and_answers_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the other environment alarms where a window's average is positive."""

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        data = np.load(command[3])
        np.testing.assert_array_equal(data["validation"], VALIDATION)
        assert json.loads(command[4]) == {"drift_share": 0.25}
        sent = np.split(data["windows"], np.cumsum(data["sizes"])[:-1])
        return subprocess.CompletedProcess(command, 0, json.dumps([bool(window.mean() > 0) for window in sent]))

    monkeypatch.setattr(subprocess, "run", answer)
    judge = partial(evidently, python=Path("python"), options={"drift_share": 0.25})
    mixed = windows(2, 30, 5.0, slice(None)) + windows(3, 40, -5.0, slice(None)) + windows(1, 7, 5.0, slice(None))
    assert judge(mixed, VALIDATION).tolist() == [True, True, False, False, False, True]


def test_evidentlys_environment_is_made_once_and_again_for_other_pins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []
    pins = tmp_path / "pins.txt"
    monkeypatch.setattr(judges, "FOLDER", tmp_path / "environment")
    monkeypatch.setattr(judges, "PINS", pins)
    monkeypatch.setattr(judges.venv, "create", lambda folder, **_: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: made.append(pins.read_text()))
    for content in ("evidently==1", "evidently==1", "evidently==2"):
        pins.write_text(content)
        assert evidently_python().is_relative_to(tmp_path)
    assert made == ["evidently==1", "evidently==2"]
