"""Made-up replicas count what they are given, tell it, and report on each other's."""

import shutil

import pytest

from benchmarks.scaling import many, push
from benchmarks.scaling.cost import a_second, redis_server
from benchmarks.scaling.traffic import CLASSES, DAY, TOKENS, batches, fill, recorder
from runtime.artifact import read_artifact
from service.fleet.redis_store import RedisStore
from service.settings import EMBEDDED

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


def test_made_up_traffic_is_counted_like_any_other():
    now = [1000.0]
    seen = recorder(3, now)
    for batch in batches(3, requests=5)[:4]:
        seen.observe(batch)
    state = seen.state()
    assert (state.requests, state.tokens) == (20, 20 * TOKENS)
    assert len(state.traffic.counts) == CLASSES and state.traffic.requests == 20


def test_every_bucket_of_a_day_is_filled():
    end = 1_764_115_200.0
    now = [end]
    seen, made = recorder(1, now), batches(1, requests=1)
    fill(seen, end, made, made)
    assert seen.since == end - DAY
    held = seen.buckets({})
    assert sum(bucket.ring == "window-10" for bucket in held) == 360
    assert sum(bucket.ring == "window-300" for bucket in held) == 288


def test_a_second_is_figures_alone_or_all_on_average():
    found = push.Pushes()
    found.published[push.FIGURES], found.sent[push.FIGURES] = [0.2, 0.3, 0.4], [0.1, 0.1, 0.1]
    found.published[push.HISTOGRAMS], found.sent[push.HISTOGRAMS] = [6.0], [5.0]
    figures, on_average = a_second(found)
    assert figures == pytest.approx(0.4)
    assert on_average == pytest.approx(12.2 / push.SECONDS)


@needs_redis
def test_pushes_tell_figures_every_second_and_histograms_every_tenth(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(push, "SECONDS", 20)
    with redis_server() as url:
        found = push.measure(2, read_artifact(EMBEDDED).manifest, RedisStore(url))
    assert len(found.sent[push.HISTOGRAMS]) == 2 and len(found.sent[push.FIGURES]) == 18


@needs_redis
def test_a_replica_hears_of_all_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(many, "TURNS", 2)
    monkeypatch.setattr(many, "REPORTS", 1)
    with redis_server() as url:
        found = many.measure(read_artifact(EMBEDDED), url, replicas=2)
    assert found.shares > 600 and len(found.turns) == 2 and set(found.reports) == set(many.WINDOWS)
