"""Plans: what grows with the rate, what with its square, and what is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic_settings import CliApp

from benchmarks.capacity import check
from benchmarks.capacity import plan as plans
from benchmarks.capacity.__main__ import Capacity, make_tables
from benchmarks.capacity.check import DOCUMENT, HEADER, compare
from benchmarks.capacity.plan import Aim, least_workers, needs, p99_limit, plan, smallest_fleet
from benchmarks.capacity.store import busy_replicas, exchange, most_replicas
from tests.benchmarks.capacity.examples import COSTS, MEASURED

AIM = Aim(rate=50_000.0, p99=0.05)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "REQUESTS", 4000)
    monkeypatch.setattr(check, "REQUESTS", 2000)
    monkeypatch.setattr(plans, "SEEDS", 1)


def test_workers_grow_in_proportion_to_the_rate() -> None:
    found = [smallest_fleet(COSTS, replace(AIM, rate=rate), "least loaded").workers for rate in (5e4, 5e5)]
    assert found == [15, 143]
    assert least_workers(COSTS, replace(AIM, rate=1.0)) == 1


def test_a_stricter_limit_takes_more_workers() -> None:
    """A limit near one request alone, which batches of several exceed."""
    strict = smallest_fleet(COSTS, replace(AIM, rate=10_000.0, p99=9e-4), "round robin")
    assert strict.met
    assert strict.workers > least_workers(COSTS, replace(AIM, rate=10_000.0))
    assert strict.p99 <= 9e-4


def test_a_limit_that_no_number_keeps_is_told() -> None:
    fleet = smallest_fleet(COSTS, replace(AIM, rate=5000.0, p99=1e-6), "round robin")
    assert (fleet.met, fleet.workers) == (False, 8)


def test_policies_are_side_by_side() -> None:
    found = {fleet.policy: fleet for fleet in plan(COSTS, AIM)}
    assert list(found) == ["round robin", "least loaded", "random of two", "by connection"]
    assert all(fleet.workers >= 15 and fleet.met for fleet in found.values())
    assert found["by connection"].p99 > found["random of two"].p99


def test_needs_are_those_of_all_workers() -> None:
    fleet = replace(smallest_fleet(COSTS, AIM, "round robin"), workers=15)
    found = needs(COSTS, AIM, fleet)
    assert (found.machines, found.replicas) == (2, 2)
    assert found.memory == 2 * 60e6 + 15 * 50e6
    assert found.bits_in == 50_000 * 8 * COSTS.wire_bytes()[0]
    assert found.under_way == pytest.approx(50_000 * fleet.p50)
    assert needs(COSTS, replace(AIM, cores=32), fleet).replicas == 2  # of eight workers at most


def test_what_replicas_read_grows_with_their_square() -> None:
    one, few, many = (exchange(5, replicas) for replicas in (1, 10, 100))
    assert (one.read, one.pushes, one.written) == (0.0, 1.0, pytest.approx(15_600))
    assert many.read / few.read == pytest.approx(100 * 99 / (10 * 9))
    assert exchange(5, 32).turn == pytest.approx(0.045)
    assert exchange(13, 32).written == pytest.approx(32 * 22_000)
    assert 8 * exchange(5, most_replicas(5, 1e10)).read <= 1e10 < 8 * exchange(5, most_replicas(5, 1e10) + 1).read
    assert exchange(5, busy_replicas(5, 1.0)).turn <= 1.0 < exchange(5, busy_replicas(5, 1.0) + 1).turn


def test_the_limit_is_five_times_one_request_and_at_least_50_ms() -> None:
    assert p99_limit(COSTS, None) == 0.05
    assert p99_limit(replace(COSTS, alone=0.02), None) == pytest.approx(0.1)
    assert p99_limit(COSTS, 7.0) == pytest.approx(0.007)


def test_every_block_of_the_document_is_filled() -> None:
    tables = make_tables(MEASURED, [(AIM, plan(COSTS, AIM))])
    assert all(f"<!-- table: {name} -->" in DOCUMENT.read_text() for name in [*tables, "capacity check"])
    assert "15" in tables["capacity answer"]


def test_a_load_is_simulated_beside_what_was_measured() -> None:
    row = compare(COSTS, MEASURED.loads[0]).row()
    assert len(row) == len(HEADER)
    assert row[:4] == ["1, 1", "0.5", "2,500", row[3]]


def test_the_command_plans_from_costs_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs, found = tmp_path / "costs.json", tmp_path / "found.json"
    costs.write_text(json.dumps({"measured": MEASURED.to_json()}))
    CliApp.run(Capacity, ["--costs", str(costs), "--rate", "3000", "--json", str(found)])
    assert "3,000 requests/s" in capsys.readouterr().out
    written = json.loads(found.read_text())
    assert written["plans"][0]["fleets"][0]["workers"] == 1
    assert written["measured"] == json.loads(costs.read_text())["measured"]
