"""The aggregator adds up processes, and remembers how fast it went."""

import asyncio

import pytest

from runtime.errors import Unavailable
from service.batching.batcher import BatchCounters
from service.settings import Settings
from service.telemetry.aggregator import PERIOD, Aggregator, ProcessCounts, Report, Reporter
from service.telemetry.counters import Gauges, Tally
from service.telemetry.inference_counts import Counted, InferenceCounts
from service.telemetry.request_log import RequestLog
from tests.service.batching.scenarios import Clock


def counted(rows: int) -> Tally:
    tally = Tally.nothing()
    tally.rows = rows
    return tally


def test_tallies_of_ended_processes_stay_and_their_gauges_go():
    aggregator = Aggregator()
    first, second, silent = aggregator.open(), aggregator.open(), aggregator.open()
    first.count(counted(3), Gauges(in_flight=1), {})
    second.count(counted(4), Gauges(in_flight=2), {})
    first.count(counted(5), Gauges(in_flight=4), {})
    report = aggregator.report()
    assert (report.total.rows, report.now.in_flight, report.workers) == (9, 6, 2)
    for process_counts in (first, first, silent):
        process_counts.close()
    report = second.traffic()
    assert (report.total.rows, report.now.in_flight, report.workers) == (9, 2, 1)
    aggregator.open().count(counted(1), Gauges(), {})
    assert aggregator.report().total.rows == 10


def answered(rows: int) -> InferenceCounts:
    counts = InferenceCounts()
    counts.answer(rows, *[0.5] * 5)
    return counts


def test_what_each_artifact_answered_is_added_up_and_outlasts_processes():
    aggregator = Aggregator()
    first, second = aggregator.open(), aggregator.open()
    first.count(Tally.nothing(), Gauges(), {"a": answered(3), "b": answered(5)})
    second.count(Tally.nothing(), Gauges(), {"a": answered(4)})
    second.count(Tally.nothing(), Gauges(), {"a": answered(6)})  # all it ever counted: nothing twice
    first.count(Tally.nothing(), Gauges(), {})
    for process_counts in (first, first, second):
        process_counts.close()
        found = aggregator.inferences()
        assert {digest: (counts.requests, counts.rows) for digest, counts in found.items()} == {
            "a": (2, 9),
            "b": (1, 5),
        }


def test_rates_are_about_the_last_seconds():
    clock = Clock()
    aggregator = Aggregator(clock)
    process_counts = aggregator.open()
    for rows in range(1, 401):  # one row every quarter of a second, for 100 s
        clock.wait(PERIOD)
        process_counts.count(counted(rows), Gauges(), {})
    recent = aggregator.report().recent
    for seconds in (10, 60):
        assert seconds <= recent[seconds].seconds <= seconds + 1
        assert recent[seconds].tally.rows == recent[seconds].seconds / PERIOD
    assert aggregator.report().total.rows == 400
    clock.wait(30)  # nothing comes any more
    assert aggregator.report().recent[10].tally.rows == 0
    assert 100 <= aggregator.report().recent[60].tally.rows <= 130


def test_young_service_is_about_what_there_is():
    clock = Clock()
    aggregator = Aggregator(clock)
    aggregator.open().count(counted(7), Gauges(), {})
    clock.wait(2.0)
    assert aggregator.report().recent[60].seconds == 2.0
    assert aggregator.report().recent[60].tally.rows == 7


def test_model_that_came_and_went_between_two_snapshots_is_counted():
    aggregator, counted, ran = Aggregator(), Counted(), BatchCounters()
    reporter = Reporter(RequestLog(Settings()), aggregator.open(), list, counted)
    reporter.hand_in()
    counted.add("a", InferenceCounts(), ran)
    ran.rows, ran.tokens, ran.batch_rows[1] = 2, 9, 1
    total = asyncio.run(reporter.report()).total
    assert (total.rows, total.tokens, total.batch_rows.sum()) == (2, 9, 1)


def test_reporter_hands_in_four_times_a_second_and_at_its_end():
    aggregator, request_log = Aggregator(), RequestLog(Settings())
    reporter, counters = Reporter(request_log, aggregator.open(), list, Counted()), request_log.counters

    async def main() -> None:
        reporter.start()
        counters.requests["/predict", 200] += 1
        await asyncio.sleep(2 * PERIOD)
        assert aggregator.report().total.requests["/predict", 200] == 1
        counters.requests["/predict", 200] += 1
        assert (await reporter.report()).total.requests["/predict", 200] == 2
        counters.requests["/predict", 200] += 1
        reporter.stop()

    asyncio.run(main())
    assert aggregator.report().total.requests["/predict", 200] == 3


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
    sink = Gone()
    reporter = Reporter(RequestLog(Settings()), sink, list, Counted())

    async def main() -> None:
        reporter.start()
        await asyncio.sleep(2 * PERIOD)
        assert sink.asked == 1
        with pytest.raises(Unavailable):
            await reporter.report()
        reporter.stop()

    asyncio.run(main())


def test_account_says_when_the_service_stops():
    aggregator = Aggregator()
    process_counts: ProcessCounts = aggregator.open()
    process_counts.check_ready()
    aggregator.stopping = True
    with pytest.raises(Unavailable, match="is stopping"):
        process_counts.check_ready()
