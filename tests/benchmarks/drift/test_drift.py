"""The tables of docs/drift.md from rates, and rates from a judge."""

from pathlib import Path

import numpy as np

from benchmarks.document import replace_table
from benchmarks.drift.__main__ import NAMES, alarm_shares, comparison, full_table
from benchmarks.drift.traffic import Requests, Row

DOCUMENT = Path(__file__).parents[3] / "docs" / "drift.md"


def test_alarm_shares_are_of_windows_taken_evenly_from_the_row() -> None:
    """A judge that alarms at windows of requests above 5; the second half of `half` is such."""
    windows = {
        "none": [Requests(np.zeros((3, 2)), np.zeros(3)) for _ in range(8)],
        "half": [Requests(np.full((3, 2), 10.0 * (number >= 4)), np.zeros(3)) for number in range(8)],
    }
    asked: list[int] = []

    def judge(picked: list[np.ndarray], validation: np.ndarray) -> np.ndarray:
        asked.append(len(picked))
        return np.array([window.mean() > validation.mean() for window in picked])

    assert alarm_shares(judge, windows, np.full((7, 2), 5.0), 4) == {"none": 0.0, "half": 0.5}
    assert asked == [8]


def test_the_full_table_has_every_judge_and_aim() -> None:
    table = full_table({"50 in-scope": Row([], "≤ .02")}, {"50 in-scope": {"drift": 0.0114, "KS, output": 1.0}})
    assert table.splitlines()[0] == "| window | drift | KS, output | aim |"
    assert table.splitlines()[2] == "| 50 in-scope | 0.011 | 1.000 | ≤ .02 |"


def test_the_comparison_shows_mix_shift_where_it_is_meant() -> None:
    rates = {"50 in-scope": {"drift": 0.01, "mix shift": 0.02}, "50 of one domain": {"drift": 0.03, "mix shift": 0.97}}
    table = comparison({"LayerNorm, post": rates, "LayerNorm, pre": rates}).splitlines()
    assert table[0] == "| window | LayerNorm, post | LayerNorm, pre |"
    assert table[2:] == ["| 50 in-scope | 0.010 | 0.010 |", "| 50 of one domain | 0.030 / 0.970 | 0.030 / 0.970 |"]


def test_the_document_has_a_block_for_every_encoder_that_it_shows() -> None:
    text = DOCUMENT.read_text()
    encoders = [f"{kind}-{placement}" for kind in NAMES for placement in ("post", "pre")]
    shown = [name for name in (*encoders, "encoders") if f"<!-- table: {name} -->" in text]
    assert {"layer_norm-post", "layer_norm-pre", "rms_norm-post", "batch_norm-post", "encoders"} <= set(shown)
    for name in shown:
        assert "| measured |" in replace_table(text, name, "| measured |")
