"""Which precision is taken: the one that was named, or the fastest whose answers are those of float32."""

from collections.abc import Callable
from typing import Any

import pytest

from addnorm.commands.export import tell_trials
from export.precision.choice import Asked, Lowered, choose
from export.precision.tolerances import COSINES
from export.timing import with_manifest
from runtime.artifact import Artifact
from runtime.errors import ArtifactError, ExportError
from runtime.precision import TRIALS, LowPrecision, Precision

Make = Callable[[dict[str, Any]], Callable[[LowPrecision], Lowered]]


@pytest.fixture
def make(embedding_artifact: Artifact) -> Make:
    """Lowers to what the test says was measured, or refuses."""

    def of(measured: dict[str, Any]) -> Callable[[LowPrecision], Lowered]:
        def lower(kind: LowPrecision) -> Lowered:
            if isinstance(measured[kind], str):
                raise (ArtifactError if kind == "bf16" else ExportError)(measured[kind])
            return with_manifest(embedding_artifact, precision=Precision(kind=kind, **measured[kind])), {kind: 0.1}

        return lower

    return of


def speed(one: float, many: float) -> dict[str, float]:
    return {"batch 1": one, "batch 32": many}


@pytest.mark.parametrize(
    ("bf16", "int8", "taken"),
    [
        (speed(1.1, 2.7), speed(1.5, 2.0), "int8"),  # by the geometric mean of both
        (speed(1.1, 2.8), speed(1.5, 2.0), "bf16"),
        (speed(0.5, 1.9), speed(0.9, 1.0), "fp32"),
        (speed(1.1, 2.7), "In int8 the mean cosine is 0.99, less than 0.999: choose another precision.", "bf16"),
        ("model.onnx does not load (RuntimeError: Unsupported: RotaryEmbedding): no.", speed(1.2, 1.2), "int8"),
        ("There is no bf16 here (none): no.", "In int8 no: no.", "fp32"),
    ],
)
def test_auto_takes_the_fastest_that_holds(bf16: Any, int8: Any, taken: str, make: Make, embedding_artifact: Artifact):
    measured = {
        kind: found if isinstance(found, str) else {"speed": found, "mean_cosine": 0.9995}
        for kind, found in (("bf16", bf16), ("int8", int8))
    }
    artifact, errors = choose((embedding_artifact, {"fp32": 0.0}), Asked("auto"), make(measured))
    assert artifact.manifest.precision_kind == taken and list(errors) == [taken]
    trials = artifact.manifest.training[TRIALS]
    lines = tell_trials(artifact.manifest.training)
    for (kind, found), line in zip(measured.items(), lines, strict=True):
        if isinstance(found, str):
            assert trials[kind] == {"refused": found.rpartition(": ")[0]}
            assert line == f"{kind}: not taken: {found.rpartition(': ')[0]}"
        else:
            assert trials[kind] == found
            one, many = found["speed"].values()
            assert line == f"{kind}: batch 1 {one:.2f}, batch 32 {many:.2f} of fp32's speed; mean cosine 0.99950"


def test_a_classifier_that_labels_otherwise_is_not_taken(make: Make, embedding_artifact: Artifact):
    measured = {
        "bf16": {"speed": speed(2, 2), "agreement": 0.991},
        "int8": {"speed": speed(3, 3), "agreement": 0.989},
    }
    artifact, _ = choose((embedding_artifact, {}), Asked("auto"), make(measured))
    assert artifact.manifest.precision_kind == "bf16"
    assert artifact.manifest.training[TRIALS]["int8"]["refused"].startswith("In int8 98.90% of the labels")


def test_a_precision_that_is_named_is_taken_or_refused(make: Make, embedding_artifact: Artifact):
    exact = embedding_artifact, {"fp32": 0.0}
    slow = {"bf16": {"speed": speed(0.5, 0.5)}, "int8": "In int8 no."}
    assert choose(exact, Asked(), make({})) is exact
    artifact, errors = choose(exact, Asked("bf16"), make(slow))
    assert (artifact.manifest.precision_kind, errors) == ("bf16", {"bf16": 0.1})
    assert TRIALS not in artifact.manifest.training
    with pytest.raises(ExportError, match="In int8 no"):
        choose(exact, Asked("int8"), make(slow))
    with pytest.raises(ExportError, match=r"^The model does not run in bf16 \(it does not load\): choose another\.$"):
        choose(exact, Asked("bf16"), make({"bf16": "it does not load: export it again."}))


def test_the_least_cosine_is_the_users_or_the_precisions():
    assert Asked("int8").cosines("int8", "embedding") == COSINES["int8"]
    assert Asked("auto").cosines("int8", "embedding") == pytest.approx((0.999, 0.995))
    assert Asked("auto").cosines("int8", "classification") == COSINES["int8"]  # labels decide
    assert Asked("auto", 0.98).cosines("int8", "rerank") == pytest.approx((0.98, 0.9))
    assert Asked("bf16", 0.9999).cosines("bf16", "classification") == pytest.approx((0.9999, 0.9995))
