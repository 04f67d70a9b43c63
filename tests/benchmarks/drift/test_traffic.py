"""Windows of traffic, drawn from requests that say which kind they are."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.drift.traffic import Requests, both, draw_windows, sample, texts

KINDS = [Requests(np.full((9, 4), float(kind)), np.full(9, kind)) for kind in range(3)]


def test_windows_come_evenly_from_every_draw() -> None:
    windows = draw_windows([sample(kind, 5) for kind in KINDS], 12)
    assert Counter(int(window.classes[0]) for window in windows) == {0: 4, 1: 4, 2: 4}
    assert {window.features.shape for window in windows} == {(5, 4)}


def test_the_same_windows_are_drawn_again() -> None:
    rows = Requests(np.arange(100.0)[:, None], np.arange(100))
    first, second = (draw_windows([sample(rows, 20)], 3) for _ in range(2))
    assert [window.classes.tolist() for window in first] == [window.classes.tolist() for window in second]
    assert first[0].classes.tolist() != first[1].classes.tolist()


def test_a_mixed_window_holds_as_many_of_each_as_asked() -> None:
    (window,) = draw_windows([both(sample(KINDS[0], 40), sample(KINDS[2], 10))], 1)
    assert Counter(window.classes.tolist()) == {0: 40, 2: 10}
    assert Counter(window.features[:, 0].tolist()) == {0.0: 40, 2.0: 10}


def test_typing_errors_drop_about_six_percent_of_the_letters(tmp_path: Path) -> None:
    (tmp_path / "banking77").mkdir()
    (tmp_path / "banking77" / "test.csv").write_text('text,category\n"one, two",x\n')
    line = ["what is my balance, please 42", "balance"]
    kinds = texts(json.loads(json.dumps({"val": [line], "test": [line] * 400, "oos_test": [line]})), tmp_path)
    kept = sum(c.isalpha() for text in kinds["typos"] for c in text) / sum(c.isalpha() for c in line[0] * 400)
    assert 0.93 <= kept <= 0.95
    assert all(text.endswith(" 42") and text.count(" ") == 5 for text in kinds["typos"])
    assert kinds["banking77"] == ["one, two"]
