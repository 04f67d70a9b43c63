"""Networks have the sizes that are asked for, and what is measured of them is told apart."""

import json
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.curves import history, parts, services
from benchmarks.curves.history import BUCKETS, REPORTS, Recorded, by_buckets
from benchmarks.curves.networks import ROWS, Shape, make_baseline, publish, text_of, tokenizer
from benchmarks.curves.parts import ALL, NAMES, Case, Parts, Served, Timed, make_curve, measure, middle
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import Baseline
from runtime.manifest import TOKENIZER, TextInputs
from service.inference.engine import Engine
from service.settings import EMBEDDED, Settings

PARTS = Parts(graph=5e-6, tokenize=1e-6, pack=1e-6, evidence=1e-6, record=1e-6, drift=1e-6, write=1e-6)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    """The embedded model with the benchmark's tokenizer: to export another network takes seconds."""
    embedded = read_artifact(EMBEDDED)
    inputs = TextInputs(max_tokens=48, vocabulary=embedded.manifest.training["recipe"]["vocab_size"])
    files = embedded.files | {TOKENIZER: tokenizer().to_str().encode()}
    return Artifact(embedded.path, embedded.manifest.model_copy(update={"inputs": inputs}), files)


@pytest.fixture(scope="module")
def served(artifact: Artifact) -> Served:
    return Served(artifact)


@pytest.mark.parametrize("classes", [2, 40, 1000])
def test_drift_is_judged_by_all_classes(served: Served, artifact: Artifact, classes: int) -> None:
    """Of a network with random weights, too, which gives most texts the same class."""
    labels = [f"class {number}" for number in range(classes)]
    wide = replace(artifact, manifest=artifact.manifest.model_copy(update={"labels": labels}))
    texts = [text_of(3 + row % 9, row) for row in range(ROWS)]
    batches = [served.encoder.run([item.tokens]) for item in served.inputs.encode(texts)]
    baseline = make_baseline(wide, batches)
    assert baseline.reference is not None and len(baseline.reference.class_means) == classes
    assert baseline.state.requests == ROWS == baseline.reference.counts.sum()
    assert Baseline.from_json(baseline.to_json()).reference is not None


def test_bert_base_is_among_the_shapes() -> None:
    assert (parts.LAYERS[-1], parts.WIDTHS[-1]) == (12, 768)
    shape = Shape(layers=12, width=768)
    config = shape.config()
    assert (config.num_layers, config.d_model, config.num_heads, config.d_ff) == (12, 768, 12, 3072)
    assert shape.norms == history.NORMS_OF.norms == 25


@pytest.mark.parametrize("tokens", [1, 8, 300])
def test_texts_have_so_many_tokens(tokens: int) -> None:
    assert len(tokenizer().encode(text_of(tokens, 3)).ids) == tokens
    assert tokens == 1 or text_of(tokens, 3) != text_of(tokens, 4)


def test_a_published_network_is_served(artifact: Artifact, tmp_path: Path) -> None:
    paths = [publish(artifact, tmp_path, name) for name in ("one", "two")]
    assert [read_artifact(path).manifest.name for path in paths] == ["one", "two"]
    engine = Engine(Settings(model=paths[1], device="cpu"))
    assert engine.identity == {"model": "two", "version": "1"}


def test_a_timed_function_adds_up_until_its_seconds_are_taken() -> None:
    timed = Timed(lambda turns: sum(range(turns)))
    assert timed(10) == 45
    timed(200_000)
    first = timed.take()
    assert 1e-4 < first < 10 and timed.take() == 0


def test_the_graph_is_told_apart_from_the_rest(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that takes longer changes no other part by as much."""
    case, function = Case(served, tokens=12), served.graph.function
    before = middle([case.run(turn) for turn in range(5)])

    def slow(*arguments: object) -> object:
        until = time.thread_time() + 0.005
        while time.thread_time() < until:
            pass
        return function(*arguments)

    monkeypatch.setattr(served.graph, "function", slow)
    after = middle([case.run(turn) for turn in range(5)])
    assert after.graph - before.graph > 0.0045
    assert after.outside < 0.0045


def test_answers_with_more_labels_take_longer_to_write(served: Served) -> None:
    found = measure({1: Case(served), ALL: Case(served, top_k=ALL)}, 0.0)
    assert found[ALL].write > found[1].write
    assert all(getattr(each, name) > 0 for each in found.values() for name in NAMES)


def test_outside_is_all_but_the_graph() -> None:
    assert PARTS.outside == pytest.approx(6e-6)
    slower = middle([PARTS, replace(PARTS, graph=7e-6), replace(PARTS, graph=9e-6, write=9e-6)])
    assert slower == replace(PARTS, graph=7e-6)


def test_a_table_has_the_exponents_of_each_group() -> None:
    sizes = {10: PARTS, 20: replace(PARTS, graph=2e-5)}
    curve = make_curve("tokens", {"a": sizes, "b": sizes}, "", ["a"])
    assert [row[0] for row in curve.rows[:4]] == ["a: 10", "a: 20", "a: exponent", "a: of the last step"]
    assert curve.rows[2][1] == "2.00" and curve.rows[0][-1] == "55%"
    assert list(curve.lines) == ["outside, a", "graph, a", "outside, b"]
    assert all(len(row) == len(curve.header) for row in curve.rows)


def test_rings_are_filled_to_a_share(artifact: Artifact) -> None:
    full, half = (Recorded.of(artifact) for _ in range(2))
    assert full.fill(1.0) > 640 and 320 < half.fill(0.5) < 330
    assert full.now == half.now
    recorded = full.collector.recorder.window(None)
    assert recorded.everything.requests > 20_000
    costs = full.costs(1)
    assert set(REPORTS) < set(costs) and all(cost > 0 for cost in costs.values())


def test_each_report_comes_in_another_bucket(artifact: Artifact) -> None:
    recorded = Recorded.of(artifact)
    before = recorded.now[0]
    recorded.costs(2)
    assert recorded.now[0] - before == history.STEP * 2 * (len(REPORTS) + 2)


def test_rings_that_hold_nothing_have_no_place_on_a_curve() -> None:
    assert by_buckets([{BUCKETS: 0.0, "x": 1.0}, {BUCKETS: 5.0, "x": 2.0}], "x") == {5.0: 2.0}


def test_requests_go_to_the_models_in_turn() -> None:
    found = [json.loads(body) for body in services.bodies(["a", "b", "c"], 2)]
    assert [each["model"] for each in found[:4]] == ["a", "b", "c", "a"] and len(found) % 3 == 0
    assert all(len(each["inputs"]) == 2 for each in found)
    np.testing.assert_array_equal(np.unique([each["model"] for each in found], return_counts=True)[1], len(found) // 3)


def test_every_number_of_a_service_has_a_column() -> None:
    assert list(services.TITLES) == [field.name for field in fields(services.Found)]
