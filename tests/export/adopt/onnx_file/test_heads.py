"""Files that classify: their logits, labels and scores, and the vectors of texts beside them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

from export.adopt.onnx_file.adopter import adopt_file
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from export.adopt.writing import Adopted
from runtime.errors import DataError, ExportError
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import CANARY
from tests.adopted import SUBJECTS, make_pairs, make_texts
from tests.export.adopt.norms.exports import exported, in_half, served
from tests.export.adopt.onnx_file.files import (
    add_weights,
    few_draws,
    pair_classifier,
    rename,
    replace_weight,
    save,
    tiny,
    weight,
    with_head,
    with_types,
)
from tests.model.pretrained.networks import Texts as Ids
from tests.model.pretrained.networks import random_texts, reference, relative, write

TEXTS, PAIRS = random_texts(types=False), random_texts(types=True)
LABELS = {"id2label": {str(number): label for number, label in enumerate(SUBJECTS)}}
CLASSIFIER = LABELS | {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}


def adopt(
    folder: Path, model: onnx.ModelProto | bytes, config: dict[str, Any], texts: Texts | None = None, **hints: Any
) -> Adopted:
    path = save(folder, model)
    write(folder / "config.json", config)
    with few_draws():
        return adopt_file(path, texts or Texts(make_texts(12), None), folder / "mine" / "1", Hints(**hints))


def first_tokens() -> NDArray[np.float64]:
    return reference(served("shallow").model, TEXTS, "cls").embedding


def with_types_of(texts: Ids) -> list[NDArray[np.int64]]:
    return [np.stack(pair, -1) for pair in zip(texts.ids, texts.types, strict=True)]


def test_a_head_gives_labels_and_logits(tmp_path: Path):
    model, weights, bias = with_head(exported("shallow", 17), 3)
    artifact = adopt(tmp_path, model, LABELS).artifact
    manifest, found = artifact.manifest, Encoder(artifact).run(TEXTS.ids)
    assert (manifest.task, manifest.labels, manifest.activation) == ("classification", SUBJECTS, "softmax")
    assert (manifest.inputs.pooling, manifest.inputs.pairs, manifest.inputs.type_ids) == ("cls", False, False)
    logits = first_tokens() @ weights + bias
    assert relative(found.logits, logits) < 2e-6 and relative(found.embedding, first_tokens()) < 2e-6
    assert found.classes == logits.argmax(1).tolist()


@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_a_file_that_ends_in_scores_is_served_by_its_logits(end: str, half: bool, tmp_path: Path):
    """In half precision a Cast stands behind the scores."""
    model, weights, bias = with_head(exported("shallow", 17), 3, end)
    content = in_half(model.SerializeToString(), tmp_path) if half else model
    artifact = adopt(tmp_path, content, LABELS).artifact
    assert artifact.manifest.activation == end.lower()
    error = relative(Encoder(artifact).run(TEXTS.ids).logits, first_tokens() @ weights + bias)
    assert error < (1e-2 if half else 2e-6)


WRITTEN = {  # a softmax without that node
    "plain": "p = Exp(raw) t = ReduceSum <keepdims = 1> (p, classes) logits = Div(p, t)",
    "less the maximum": "m = ReduceMax <axes = [1]> (raw) d = Sub(raw, m) p = Exp(d) "
    "t = ReduceSum <keepdims = 1> (p, classes) logits = Div(p, t)",
    "its logarithm": "logits = LogSoftmax(raw)",
}
SCORES = {  # and others, which cannot be told
    "twice a softmax": "p = Softmax(raw) logits = Add(p, p)",
    "a softmax of other rows": "logits = Softmax <axis = 0> (raw)",
    "a hard sigmoid": "logits = HardSigmoid(raw)",
}


def ending(body: str) -> tuple[onnx.ModelProto, NDArray[np.float64], NDArray[np.float64]]:
    """A classifier with these nodes behind its logits."""
    model, weights, bias = with_head(exported("shallow", 17), 3)
    rename(model, "logits", "raw")
    model.graph.output[0].name = "logits"
    header = '<ir_version: 8, opset_import: ["" : 17]> end (float[b, 3] raw, int64[1] classes) => (float[b, 3] logits)'
    model.graph.node.extend(onnx.parser.parse_model(f"{header} {{ {body} }}").graph.node)
    add_weights(model, {"classes": np.array([1])})
    return model, weights, bias


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN)
def test_a_softmax_that_is_written_out_is_left_to_serving(body: str, tmp_path: Path):
    model, weights, bias = ending(body)
    artifact = adopt(tmp_path, model, LABELS).artifact
    assert artifact.manifest.activation == "softmax"
    assert relative(Encoder(artifact).run(TEXTS.ids).logits, first_tokens() @ weights + bias) < 2e-6


@pytest.mark.parametrize("body", SCORES.values(), ids=SCORES)
def test_scores_are_not_taken_for_logits(body: str, tmp_path: Path):
    model, _, _ = ending(body)
    message = r"model.onnx gives logits that look like probabilities, .* name --activation if these are the logits\.$"
    with pytest.raises(ExportError, match=message):
        adopt(tmp_path, model, LABELS)
    if "axis" not in body:  # which would see other texts
        manifest = adopt(tmp_path, model, LABELS, activation="sigmoid").artifact.manifest
        assert manifest.activation == "sigmoid"


def test_what_the_user_says_of_scores_is_taken(tmp_path: Path):
    artifact = adopt(tmp_path, with_head(tiny(), 3, "Softmax")[0], LABELS, activation="sigmoid").artifact
    assert artifact.manifest.activation == "sigmoid"


def test_an_output_of_another_name_classifies_where_labels_are_given(tmp_path: Path):
    model = rename(with_head(tiny(), 3)[0], "logits", "output_0")
    (tmp_path / "labels.txt").write_text("\n".join(SUBJECTS))
    artifact = adopt(tmp_path / "a", model, {}, labels=tmp_path / "labels.txt").artifact
    assert (artifact.manifest.task, artifact.manifest.labels) == ("classification", SUBJECTS)
    assert adopt(tmp_path / "b", model, CLASSIFIER).artifact.manifest.labels == SUBJECTS
    assert adopt(tmp_path / "c", model, {}).artifact.manifest.task == "embedding"


def test_the_vector_of_a_classified_text_is_pooled_as_is_asked(tmp_path: Path):
    artifact = adopt(tmp_path, with_head(exported("shallow", 17), 3)[0], LABELS, pooling="mean").artifact
    expected = reference(served("shallow").model, TEXTS, "mean").embedding
    assert relative(Encoder(artifact).run(TEXTS.ids).embedding, expected) < 2e-6


def test_the_norm_of_a_head_is_not_observed(tmp_path: Path):
    artifact = adopt(tmp_path, with_head(tiny(), 3, norm=True)[0], LABELS).artifact
    (missing,) = artifact.manifest.unobserved
    assert missing.name == "head.norm" and missing.reason.startswith("head.norm is not observed: ")
    assert missing.reason.endswith("expected batch, tokens and features.")
    assert len(artifact.manifest.layers) == 1 and artifact.manifest.d_model == 8


def test_accuracy_is_the_share_of_labels_that_the_file_gives(tmp_path: Path):
    model = with_head(tiny(), 3)[0]
    artifact = adopt(tmp_path / "a", model, LABELS).artifact
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(make_texts(12))]
    found = [SUBJECTS[number] for number in Encoder(artifact).run(sequences).classes]
    wrong = [SUBJECTS[(SUBJECTS.index(label) + 1) % 3] for label in found[:3]]
    assert adopt(tmp_path / "b", model, LABELS, Texts(make_texts(12), [*wrong, *found[3:]])).accuracy == 0.75


def test_a_label_that_the_file_has_not_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"no label 'house', it has card, loan, rent: .*\.$"):
        adopt(tmp_path, with_head(tiny(), 3)[0], LABELS, Texts(make_texts(12), ["house"] * 12))
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("classes", [1, 2])
def test_pairs_are_read_by_their_token_types(classes: int, tmp_path: Path):
    network, content = pair_classifier(classes)
    artifact = adopt(tmp_path, content, {"model_type": "bert"}, Texts(make_pairs(12), None)).artifact
    manifest = artifact.manifest
    expected_task = ("rerank", [], "sigmoid") if classes == 1 else ("classification", ["LABEL_0", "LABEL_1"], "softmax")
    assert (manifest.task, manifest.labels, manifest.activation) == expected_task
    assert (manifest.inputs.pairs, manifest.inputs.type_ids) == (True, True)
    found, expected = Encoder(artifact).run(with_types_of(PAIRS)), reference(network, PAIRS, "cls", types=True)
    assert expected.logits is not None and found.logits.shape == (9, classes)
    assert relative(found.logits, expected.logits) < 2e-6 and relative(found.embedding, expected.embedding) < 2e-6
    assert relative(found.norm_statistics[:, 1::2], expected.statistics[:, 1::2]) < 2e-6
    other = Encoder(artifact).run(with_types_of(Ids(PAIRS.ids, [1 - types for types in PAIRS.types])))
    assert relative(other.logits, expected.logits) > 1e-2


def test_the_canary_of_a_reranker_holds_pairs_with_their_types(tmp_path: Path):
    network, content = pair_classifier(1)
    artifact = adopt(tmp_path, content, {}, Texts(make_pairs(12), None)).artifact
    canary = json.loads(artifact.files[CANARY])
    columns = [np.array(tokens).T for tokens in canary["inputs"]]
    assert all(set(types) == {0, 1} for _, types in columns)
    expected = reference(network, Ids(*map(list, zip(*columns, strict=True))), "cls", types=True)
    assert relative(np.array(canary["logits"]), expected.logits) < 2e-6


def test_one_logit_needs_pairs(tmp_path: Path):
    with pytest.raises(DataError, match=r"pairs of texts: .*--text-pair\.$"):
        adopt(tmp_path, with_head(tiny(), 1)[0], {})
    assert not (tmp_path / "mine").exists()


def test_an_embedding_reads_no_pairs(tmp_path: Path):
    with pytest.raises(DataError, match=r"single texts: leave --text-pair out\.$"):
        adopt(tmp_path, tiny(), {}, Texts(make_pairs(12), None), pooling="mean")


def test_classes_of_the_texts_are_for_classifiers(tmp_path: Path):
    with pytest.raises(ExportError, match="--label is for a classifier, and this is an embedding model: leave it out"):
        adopt(tmp_path, tiny(), {}, Texts(make_texts(12), ["a"] * 12), pooling="mean")
    with pytest.raises(ExportError, match="--label is for a classifier, and this is a reranker"):
        adopt(tmp_path, with_head(tiny(), 1)[0], {}, Texts(make_pairs(12), ["a"] * 12))
    assert not (tmp_path / "mine").exists()


def test_token_types_of_single_texts_are_zero(tmp_path: Path):
    model = with_types(tiny())
    artifact = adopt(tmp_path, model, {}, pooling="cls").artifact
    assert not artifact.manifest.inputs.type_ids
    rows = weight(model, "types").copy()
    rows[1] = 100  # nobody reads it
    replace_weight(model, "types", rows)
    other = adopt(tmp_path / "other", model, {}, pooling="cls").artifact
    texts = [ids[:12] for ids in TEXTS.ids]
    np.testing.assert_array_equal(Encoder(artifact).run(texts).embedding, Encoder(other).run(texts).embedding)


def test_logits_for_every_token_are_refused(tmp_path: Path):
    model = rename(tiny(), "last_hidden_state", "logits")
    with pytest.raises(ExportError, match=r"gives logits for every token: .*cannot be served\.$"):
        adopt(tmp_path, model, LABELS)
    assert not (tmp_path / "mine").exists()
