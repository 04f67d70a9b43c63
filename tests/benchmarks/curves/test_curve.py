"""Exponents, tables and pictures of measured curves."""

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.curves.__main__ import CURVES, Curves
from benchmarks.curves.curve import Curve, draw, exponent, growth, growth_rows, last_exponent, number, show, write
from benchmarks.document import END

TOKENS = Curve("tokens", "A note.", ("size", "µs"), [["8", "1"], ["16", "2"]], {"graph": {8: 1, 16: 2}}, ("n", "µs"))
MODELS = Curve("models", "Another.", ("size", "MB"), [["1", "9"]], {"MB": {1: 9, 5: 9}, "none": {1: 0}}, ("n", "MB"))
BLOCK = f"<!-- table: curves tokens -->\n\nold\n\n{END}\n"


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 1.5])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    points = {size: 3e-6 * size**power for size in (8, 16, 64, 512)}
    assert exponent(points) == pytest.approx(power, abs=1e-9)
    assert last_exponent(points) == pytest.approx(power, abs=1e-9)


def test_the_last_step_shows_what_a_constant_part_hides() -> None:
    points = {size: 1_000 + size**2 for size in (1, 2, 4, 8, 1_000, 10_000)}
    assert exponent(points) < 1.5
    assert last_exponent(points) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("points", [{}, {1: 2.0}, {1: 2.0, 2: 0.0}, {0: 1.0, 5: 2.0}])
def test_without_two_sizes_there_is_no_exponent(points: dict[float, float]) -> None:
    assert math.isnan(exponent(points))
    assert growth(points) == ("", "")


def test_growth_rows_have_a_column_for_each_cost() -> None:
    linear, square = {1: 1.0, 2: 2.0}, {1: 1.0, 2: 4.0}
    rows = growth_rows("all: ", [linear, square])
    assert rows == [["all: exponent", "1.00", "2.00"], ["all: of the last step", "1.00", "2.00"]]


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (0.01234, "0.0123"), (0, "0")])
def test_numbers_have_three_digits_or_are_whole(value: float, text: str) -> None:
    assert number(value) == text


def test_blocks_that_are_there_are_filled_and_the_others_named(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Title\n\n{BLOCK}\nrest\n")
    missing = write([TOKENS, MODELS], document, "A machine.")
    assert len(missing) == 1 and "<!-- table: curves models -->" in missing[0] and "benchmarks.md" in missing[0]
    written = document.read_text()
    assert "old" not in written and written.endswith(f"{END}\n\nrest\n")
    assert "A machine. A note.\n\n| size | µs |\n|---|---|\n| 8 | 1 |\n| 16 | 2 |\n" in written


def test_without_a_block_the_document_stays_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("# Title\n")
    assert len(write([TOKENS, MODELS], document, "A machine.")) == 2
    assert document.read_text() == "# Title\n"


def test_a_curve_is_shown_with_its_note() -> None:
    console = Console(file=io.StringIO(), width=80)
    show(TOKENS, console)
    printed = console.file.getvalue()
    assert "curves tokens" in printed and "A note." in printed and "16" in printed


def test_every_curve_has_a_panel(tmp_path: Path) -> None:
    path = tmp_path / "img" / "curves.png"
    draw([TOKENS, MODELS, TOKENS, TOKENS], path)  # two rows, with panels left over; a line may be empty
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_only_curves_that_there_are_can_be_chosen() -> None:
    assert Curves(only=["tokens", "workers"]).only == ["tokens", "workers"]
    with pytest.raises(ValueError, match="no curve 'token', expected some of tokens, network"):
        Curves(only=["token"])
    assert list(CURVES) == ["tokens", "network", "classes", "models", "history", "workers", "extremes"]
