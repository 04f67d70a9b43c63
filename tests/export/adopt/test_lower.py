"""Lower precision of an adopted encoder: measured on the user's texts, and refused where it answers otherwise."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

import export.precision.int8
import export.reference
import export.timing
from export.adopt import lower, parity
from export.adopt.directory.adopter import adopt_directory, make_lower
from export.adopt.lower import check_alone, check_statistics, lower_adopted, samples
from export.adopt.texts import Texts
from export.precision.choice import Asked
from export.precision.tolerances import COSINES
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ExportError
from runtime.graph.batch import token_values
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.texts import make_input_encoder
from runtime.manifest import DEEP, MODEL
from runtime.precision import LowPrecision, Precision
from tests.adopted import EMBEDDING, MULTILABEL, RERANK, SUBJECTS, make_inputs, source_of
from tests.model.pretrained.networks import adopted

RECIPES = {"embedding": EMBEDDING, "rerank": RERANK, "multilabel": MULTILABEL}
KINDS: list[LowPrecision] = ["fp16", "int8"]
COUNT = 120

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", autouse=True)
def hurried() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        yield


class Case(NamedTuple):
    """What is adopted, in float32 and in lower precision."""

    name: str
    kind: LowPrecision
    before: Artifact
    after: Artifact

    @property
    def precision(self) -> Precision:
        measured = self.after.manifest.precision
        assert measured is not None
        return measured

    def answers(self) -> tuple[Any, Any]:
        sequences = tokens(self.before, make_inputs(RECIPES[self.name])[:COUNT])
        return Encoder(self.before).run(sequences), Encoder(self.after).run(sequences)


def tokens(artifact: Artifact, inputs: list[Any]) -> list[Tokens]:
    return [item.tokens for item in make_input_encoder(artifact).encode(inputs)]


def lowered(name: str, kind: LowPrecision, artifact: Artifact, labels: list[str] | None = None) -> Artifact:
    inputs = make_inputs(RECIPES[name])[:COUNT]
    return lower_adopted(artifact, kind, Texts(inputs, labels), tokens(artifact, inputs), lambda *_: None)


@pytest.fixture(scope="module", params=[(name, kind) for name in RECIPES for kind in KINDS], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    name, kind = request.param
    artifact = request.getfixturevalue(f"{name}_artifact")
    return Case(name, kind, artifact, lowered(name, kind, artifact))


def test_the_manifest_says_what_was_measured_on_the_texts(case: Case):
    measured, (old, new) = case.precision, case.answers()
    cosines = (old.embedding * new.embedding).sum(1) / np.prod(
        [np.linalg.norm(one.embedding, axis=1) for one in (old, new)], axis=0
    )
    assert measured.mean_cosine == pytest.approx(cosines.mean(), abs=1e-6)
    assert measured.worst_cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert COSINES[case.kind][1] < measured.worst_cosine < measured.mean_cosine < 1
    before, after = (token_values(batch.norm_statistics, case.before.manifest.layers) for batch in (old, new))
    moved = np.abs(after.mean(0) - before.mean(0))
    assert measured.mean_deviation == pytest.approx((moved / before.std(0))[0::2].max(), rel=0.05, abs=1e-5)
    assert measured.variance_deviation == pytest.approx((moved / before.mean(0))[1::2].max(), rel=0.05, abs=1e-5)
    assert measured.size == {"fp32": len(case.before.files[MODEL]), case.kind: len(case.after.files[MODEL])}
    assert measured.size[case.kind] < 0.7 * measured.size["fp32"]
    assert set(measured.speed) == {"batch 1", "batch 32"}
    assert measured.packed_against_alone is not None and 0 <= measured.packed_against_alone < 1e-2


def test_agreement_is_of_labels_and_there_is_no_accuracy_without_labels(case: Case):
    old, new = case.answers()
    same = float((old.logits.argmax(1) == new.logits.argmax(1)).mean()) if case.name == "multilabel" else None
    assert (case.precision.agreement, case.precision.accuracy) == (same, {})


def test_the_lowered_artifact_is_served_with_a_plan_and_a_canary_of_its_own(case: Case):
    manifest = case.after.manifest
    assert manifest.precision_kind == case.kind and case.before.manifest.precision_kind == "fp32"
    assert manifest.plan is not None and manifest.plan.speed.keys() == {"default", "unfused"}
    with pytest.MonkeyPatch.context() as patch:  # on the machine that lowered it, it comes out to the bit
        patch.setattr("runtime.graph.encoder.CANARY_TOLERANCE", {"int8": 1e-5, "fp16": 1e-5})
        Encoder(case.after)
        with pytest.raises(Exception, match="canary"):
            Encoder(replace(case.after, files=case.after.files | {MODEL: case.before.files[MODEL]}))


@each_kind
def test_vectors_that_are_turned_too_far_are_refused(
    kind: LowPrecision, embedding_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    for limits, said in (((1.5, 0.0), "mean cosine"), ((0.0, 1.5), "worst cosine")):
        monkeypatch.setattr(lower, "COSINES", {kind: limits})
        monkeypatch.setattr(lower, "check_alone", lambda *_: None)
        with pytest.raises(ExportError, match=rf"^In {kind} the {said} .* is [01]\.\d+, less than 1\.5: .*another"):
            lowered("embedding", kind, embedding_artifact)


def test_steps_that_are_too_few_are_refused(embedding_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    for name in ("TABLE_STEPS", "WEIGHT_STEPS"):
        monkeypatch.setattr(export.precision.int8, name, 1)
    with pytest.raises(ExportError, match=r"^In int8 the (inverse deviations|mean cosine)"):
        lowered("embedding", "int8", embedding_artifact)


@pytest.mark.parametrize("spoilt", ["embedding", "logits"])
def test_a_text_that_depends_on_its_neighbours_is_refused(spoilt: str, multilabel_artifact: Artifact):
    batch = Encoder(multilabel_artifact).run(tokens(multilabel_artifact, make_inputs(MULTILABEL)[:8]))
    first = batch.split([4, 4])[0]
    check_alone(batch, first, "int8", COSINES["int8"])
    values = getattr(first, spoilt).copy()
    values[2] = -values[2] if spoilt == "embedding" else values[2] + 0.6
    with pytest.raises(ExportError, match="In int8 a text packed with others differs from the same alone"):
        check_alone(batch, replace(first, **{spoilt: values}), "int8", COSINES["int8"])


def test_a_least_cosine_of_the_users_that_packed_texts_miss_is_named(multilabel_artifact: Artifact):
    batch = Encoder(multilabel_artifact).run(tokens(multilabel_artifact, make_inputs(MULTILABEL)[:8]))
    turned = batch.embedding.copy()
    turned[2, 0] += 0.01 * np.linalg.norm(turned[2])
    check_alone(batch, replace(batch, embedding=turned), "int8", COSINES["int8"])
    with pytest.raises(ExportError, match=r"cosine of 0\.9999\d+ with the same alone, and --min-cosine asks for 1 at"):
        check_alone(batch, replace(batch, embedding=turned), "int8", (1.0, 1.0))


@pytest.mark.parametrize(("column", "said"), [(4, "means"), (5, "inverse deviations")])
@pytest.mark.parametrize(("kind", "limit"), [("fp16", 1e-2), ("int8", 0.2)])
def test_statistics_that_moved_too_far_are_refused(
    column: int, said: str, kind: LowPrecision, limit: float, multilabel_artifact: Artifact
):
    """One token in a thousand may differ by more, one in a hundred may not."""
    before = Encoder(multilabel_artifact).run(tokens(multilabel_artifact, make_inputs(MULTILABEL)))
    scale = 1 / before.norm_statistics[:, 5] if column == 4 else before.norm_statistics[:, 5]
    for share, factor in ((1, 0.98), (0.0003, 1.5), (0.01, 1.02), (0.01, np.nan)):
        statistics = before.norm_statistics.copy()
        spoilt = slice(int(np.ceil(share * len(statistics))))
        statistics[spoilt, column] += (factor * limit * scale)[spoilt]
        after = replace(before, norm_statistics=statistics)
        if factor == 0.98 or share == 0.0003:
            check_statistics(before, after, kind)
            continue
        with pytest.raises(ExportError, match=rf"^In {kind} the {said} of tokens differ .* more than"):
            check_statistics(before, after, kind)


def test_accuracy_counts_where_there_are_labels(multilabel_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    inputs = tokens(multilabel_artifact, make_inputs(MULTILABEL)[:COUNT])
    given = [SUBJECTS[label] for label in Encoder(multilabel_artifact).run(inputs).classes]
    found = lowered("multilabel", "fp16", multilabel_artifact, given).manifest.precision
    assert found is not None and found.accuracy == {"fp32": 1.0, "fp16": found.agreement}
    worse = iter([0.9, 0.8])
    monkeypatch.setattr(lower, "accuracy", lambda *_: next(worse))
    with pytest.raises(ExportError, match=r"In fp16 the model loses 10\.00 points of accuracy on the texts"):
        lowered("multilabel", "fp16", multilabel_artifact, given)


@pytest.mark.parametrize(("count", "used"), [(10, 5), (11, 6), (2048, 1024), (5000, 1024)])
def test_ranges_come_from_half_of_the_texts_at_most(count: int, used: int):
    runs = samples([np.full(1 + place % 40, place) for place in range(count)])
    places = [int(sequence[0]) for run in runs for sequence in run]
    assert len(places) == len(set(places)) == used
    assert (places[0], places[-1]) == (0, count - 1) and max(map(len, runs)) <= 32


@each_kind
def test_what_is_lowered_is_compared_with_pytorch_again(
    kind: LowPrecision, multilabel_artifact: Artifact, shared_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network, inputs = adopted(source_of(MULTILABEL, shared_path))[1], make_inputs(MULTILABEL)[:40]
    sequences = tokens(multilabel_artifact, inputs)

    def make() -> tuple[Artifact, dict[str, float]]:
        return make_lower(multilabel_artifact, kind, network, Texts(inputs, None), sequences, lambda *_: None)

    artifact, errors = make()
    assert artifact.manifest.precision_kind == kind
    assert {"mean_cosine", "worst_cosine", "logits", "means"} < errors.keys()
    assert 1e-6 < errors["embedding"] < 0.1
    with monkeypatch.context() as patch:
        patch.setattr(parity, "COSINES", {kind: (1.5, 1.5)})
        with pytest.raises(ExportError, match="mean_cosine differ from PyTorch's"):
            make()


def test_a_directory_is_adopted_in_int8_with_a_deep_graph_that_shares_its_weights(shared_path: Path, tmp_path: Path):
    texts = Texts(make_inputs(MULTILABEL)[:40], None)
    found = adopt_directory(source_of(MULTILABEL, shared_path), texts, tmp_path / "mine" / "1", asked=Asked("int8"))
    written = read_artifact(found.artifact.path)
    assert written.manifest.precision == found.artifact.manifest.precision
    assert written.manifest.precision_kind == "int8" and found.errors.keys() > {"mean_cosine", "deep"}
    deep = onnx.load_from_string(written.files[DEEP])
    outside = [item.name for item in deep.graph.initializer if item.external_data]
    assert sum(name.endswith(".weight.steps") for name in outside) >= 12  # all of two blocks, the token table too
    assert sum(len(item.raw_data) for item in deep.graph.initializer) < len(written.files[MODEL]) / 4
    encoder, sequences = Encoder(written), tokens(written, texts.inputs)
    assert DeepGraph(written, encoder).difference(pack(sequences)) < 1e-3
    looks = read_baseline(written).deep
    assert looks is not None and looks.requests == 40
