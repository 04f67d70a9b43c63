import pickle

from service.batching.batcher import BatchCounters
from service.telemetry.inference_counts import BatchCounts, Counted, InferenceCounts


def counts(*rows: int) -> InferenceCounts:
    made = InferenceCounts()
    for number in rows:
        made.run(number, 0.1, 0.2, 0.3)
        made.answer(number, 1.5, 0.1, 0.2, 0.3, 0.4)
    made.fail(0.25)
    return made


def test_counting_is_in_nanoseconds():
    made = counts(3)
    assert (made.requests, made.rows, made.failed, made.executions) == (1, 3, 1, 1)
    assert (made.total_ns, made.failed_ns) == (1_500_000_000, 250_000_000)
    assert (made.input_ns, made.queue_ns, made.infer_ns, made.output_ns) == (10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8)
    assert made.batches == {3: BatchCounts(1, 10**8, 2 * 10**8, 3 * 10**8)}


def test_merging_is_the_same_as_counting_all():
    one, other, together = counts(3, 1), counts(1, 7), counts(3, 1, 1, 7)
    together.fail(0.25)
    merged = one.merge(other)
    together.last_ms = merged.last_ms
    assert merged == together
    assert InferenceCounts().merge(one) == one


def test_merging_changes_neither_and_keeps_the_latest():
    one, other = counts(2), counts(2)
    one.last_ms, other.last_ms = 5, 3
    merged = one.merge(other)
    merged.run(2, 0.0, 0.0, 0.0)
    assert merged.last_ms == 5
    assert (one.batches[2].executions, other.batches[2].executions, merged.batches[2].executions) == (1, 1, 3)


def test_counts_cross_from_process_to_process():
    assert pickle.loads(pickle.dumps(counts(4))).batches == counts(4).batches


def test_engines_that_are_gone_stay_counted_and_only_what_changed_is_told():
    counted, gone, there, other = Counted(), counts(1, 2), counts(3), counts(4)
    for digest, each in (("a", gone), ("a", there), ("a", there), ("b", other)):
        counted.add(digest, each, BatchCounters())
    assert counted.changed() == {"a": gone.merge(there), "b": other}
    assert counted.changed() == {}
    failed = gone.failed + there.failed
    gone.fail(0.5)  # it had a request left
    told = counted.changed()
    assert told == {"a": gone.merge(there)} and told["a"].failed == failed + 1
    there.run(3, 0.0, 0.0, 0.0)
    assert told["a"].executions + 1 == counted.changed()["a"].executions  # what was told does not change
