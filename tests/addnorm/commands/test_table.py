"""The table of statistics: no number of it is cut, however wide the terminal is."""

import io

import pytest
from rich.console import Console
from starlette.testclient import TestClient

from addnorm.commands.table import make_console, show, spread
from addnorm_client.models import NormStatsResponse


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stats(client: TestClient) -> NormStatsResponse:
    client.post("/predict", json={"inputs": ["hi", "what is my balance"]})
    return NormStatsResponse.model_validate(client.get("/norm-stats").json())


def printed(stats: NormStatsResponse, width: int) -> list[str]:
    console = Console(file=Terminal(), width=width, color_system=None)
    show(stats, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 121, 140])
def test_no_number_is_cut(stats: NormStatsResponse, width: int) -> None:
    lines = printed(stats, width)
    table = " ".join(lines)
    assert "…" not in table and all(len(line.rstrip()) <= width for line in lines)
    for layer in stats.layers:
        assert spread(layer.live.mean) in table and spread(layer.live.variance) in table


def test_baselines_are_left_out_where_there_is_no_room(stats: NormStatsResponse) -> None:
    names = {layer.name for layer in stats.layers}
    for width, count in ((80, 0), (140, 2)):
        lines = printed(stats, width)
        (header,) = [line for line in lines if "mean, live" in line]
        assert header.count("baseline") == count and "score / limit" in header
        assert names <= {word for line in lines for word in line.split()}


def test_a_long_name_goes_on_below(stats: NormStatsResponse) -> None:
    long = stats.layers[0].model_copy(update={"name": "encoder." * 12 + "norm"})
    lines = printed(stats.model_copy(update={"layers": [long]}), 80)
    assert any(spread(long.live.mean) in line and spread(long.live.variance) in line for line in lines)


def test_what_is_no_terminal_has_no_width(stats: NormStatsResponse, capsys: pytest.CaptureFixture[str]) -> None:
    show(stats, make_console())
    lines = capsys.readouterr().out.splitlines()
    assert any(line.count("±") == 4 for line in lines) and stats.verdict.sentence in lines[-1]


def test_spread_of_nothing_is_a_dash() -> None:
    assert spread(None) == "-"
