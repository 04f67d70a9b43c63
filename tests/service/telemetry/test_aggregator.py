"""The ledger adds up processes, and remembers how fast it went."""

import asyncio

import pytest

from runtime.errors import Unavailable
from service.settings import Settings
from service.telemetry.aggregator import PERIOD, Account, Ledger, Report, Reporter
from service.telemetry.counters import Gauges, Tally
from service.telemetry.inference_counts import Counted, InferenceCounts
from service.telemetry.request_log import Journal
from tests.service.batching.scenarios import Clock


def counted(rows: int) -> Tally:
    tally = Tally.nothing()
    tally.rows = rows
    return tally


def test_tallies_of_ended_processes_stay_and_their_gauges_go():
    ledger = Ledger()
    first, second, silent = ledger.open(), ledger.open(), ledger.open()
    first.count(counted(3), Gauges(in_flight=1), {})
    second.count(counted(4), Gauges(in_flight=2), {})
    first.count(counted(5), Gauges(in_flight=4), {})
    report = ledger.report()
    assert (report.total.rows, report.now.in_flight, report.workers) == (9, 6, 2)
    for account in (first, first, silent):
        account.close()
    report = second.traffic()
    assert (report.total.rows, report.now.in_flight, report.workers) == (9, 2, 1)
    ledger.open().count(counted(1), Gauges(), {})
    assert ledger.report().total.rows == 10


def answered(rows: int) -> InferenceCounts:
    counts = InferenceCounts()
    counts.answer(rows, *[0.5] * 5)
    return counts


def test_what_each_artifact_answered_is_added_up_and_outlasts_processes():
    ledger = Ledger()
    first, second = ledger.open(), ledger.open()
    first.count(Tally.nothing(), Gauges(), {"a": answered(3), "b": answered(5)})
    second.count(Tally.nothing(), Gauges(), {"a": answered(4)})
    second.count(Tally.nothing(), Gauges(), {"a": answered(6)})  # all it ever counted: nothing twice
    first.count(Tally.nothing(), Gauges(), {})
    for account in (first, first, second):
        account.close()
        found = ledger.inferences()
        assert {digest: (counts.requests, counts.rows) for digest, counts in found.items()} == {
            "a": (2, 9),
            "b": (1, 5),
        }


def test_rates_are_about_the_last_seconds():
    clock = Clock()
    ledger = Ledger(clock)
    account = ledger.open()
    for rows in range(1, 401):  # one row every quarter of a second, for 100 s
        clock.wait(PERIOD)
        account.count(counted(rows), Gauges(), {})
    recent = ledger.report().recent
    for seconds in (10, 60):
        assert seconds <= recent[seconds].seconds <= seconds + 1
        assert recent[seconds].tally.rows == recent[seconds].seconds / PERIOD
    assert ledger.report().total.rows == 400
    clock.wait(30)  # nothing comes any more
    assert ledger.report().recent[10].tally.rows == 0
    assert 100 <= ledger.report().recent[60].tally.rows <= 130


def test_young_service_is_about_what_there_is():
    clock = Clock()
    ledger = Ledger(clock)
    ledger.open().count(counted(7), Gauges(), {})
    clock.wait(2.0)
    assert ledger.report().recent[60].seconds == 2.0
    assert ledger.report().recent[60].tally.rows == 7


def test_reporter_hands_in_four_times_a_second_and_at_its_end():
    ledger, journal = Ledger(), Journal(Settings())
    reporter, traffic = Reporter(journal, ledger.open(), list, Counted()), journal.traffic

    async def main() -> None:
        reporter.start()
        traffic.requests["/predict", 200] += 1
        await asyncio.sleep(2 * PERIOD)
        assert ledger.report().total.requests["/predict", 200] == 1
        traffic.requests["/predict", 200] += 1
        assert (await reporter.report()).total.requests["/predict", 200] == 2
        traffic.requests["/predict", 200] += 1
        reporter.stop()

    asyncio.run(main())
    assert ledger.report().total.requests["/predict", 200] == 3


class Gone:
    """An owner whose process has ended."""

    def __init__(self) -> None:
        self.asked = 0

    def count(self, *_: object) -> None:
        self.asked += 1
        raise Unavailable("It is gone.")

    def traffic(self) -> Report:
        raise Unavailable("It is gone.")

    check_ready = inferences = traffic


def test_reporter_stops_when_nobody_counts_any_more():
    owner = Gone()
    reporter = Reporter(Journal(Settings()), owner, list, Counted())

    async def main() -> None:
        reporter.start()
        await asyncio.sleep(2 * PERIOD)
        assert owner.asked == 1
        with pytest.raises(Unavailable):
            await reporter.report()
        reporter.stop()

    asyncio.run(main())


def test_account_says_when_the_service_stops():
    ledger = Ledger()
    account: Account = ledger.open()
    account.check_ready()
    ledger.stopping = True
    with pytest.raises(Unavailable, match="is stopping"):
        account.check_ready()
