"""Which output of a file is served, as what, with which labels, scores and pooling. What nobody says is asked for."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.helper import make_node

from tests.export.adopt.onnx_file.files import (
    ROWS,
    TOKENS,
    D,
    append,
    read,
    refused,
    rename,
    save,
    tiny,
    with_head,
    with_types,
    with_vector,
)
from tests.model.pretrained.networks import save_modules, write

CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """An encoder's file."""
    return save(tmp_path, tiny())


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    """A classifier's file, with three classes."""
    return save(tmp_path, with_head(tiny(), 3)[0])


def test_a_file_of_vectors_makes_embeddings(vectors: Path):
    source = read(vectors, pooling="mean")
    assert (source.task, source.labels, source.activation, source.type_ids) == ("embedding", [], "softmax", False)
    assert (source.output, source.width, source.per_token) == ("last_hidden_state", D, True)
    assert (source.vocab_size, source.prompts, source.default_prompt) == (60, {}, None)


def test_a_file_of_logits_classifies(logits: Path):
    source = read(logits)
    assert (source.task, source.output, source.width, source.per_token) == ("classification", "logits", 3, False)
    assert source.labels == ["LABEL_0", "LABEL_1", "LABEL_2"] and source.pooling == "cls"
    write(logits.parent / "config.json", {"id2label": {"0": "card", "2": "rent", "1": "loan"}})
    assert read(logits).labels == ["card", "loan", "rent"]


def test_token_types_are_told_to_classifiers_alone(tmp_path: Path):
    assert not read(save(tmp_path / "a", with_types(tiny())), pooling="mean").type_ids
    assert read(save(tmp_path / "b", with_head(with_types(tiny()), 3)[0])).type_ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": "a"}, "from 0 to 2"),
        ({str(number): "abcde"[number] for number in range(5)}, "from 0 to 2, and no others"),
        ({"0": 1}, "an object of texts"),
    ],
)
def test_labels_of_another_count_are_refused(content: dict[str, Any], message: str, logits: Path):
    write(logits.parent / "config.json", {"id2label": content})
    refused(logits, rf"id2label in .*config.json is .*: .*{message}")


def test_a_file_of_labels_names_the_classes(logits: Path):
    write(logits.parent / "config.json", {"id2label": {"0": "a"}})
    labels = logits.parent / "labels.txt"
    labels.write_text("\ufeffcard\r\n\n  lost card \nrent\n", encoding="utf-8")
    assert read(logits, labels=labels).labels == ["card", "lost card", "rent"]


@pytest.mark.parametrize(
    ("content", "count"),
    [(b"card\nloan\n", 2), (b"card\nloan\nrent\nother\n", 4), (b"card\nloan\ncard\n", 2), (b"", 0)],
)
def test_other_labels_than_there_are_logits_are_refused(content: bytes, count: int, logits: Path):
    labels = logits.parent / "labels.txt"
    labels.write_bytes(content)
    refused(logits, rf"labels.txt has {count} different labels, the model 3 logits: give as many", labels=labels)


def test_labels_that_cannot_be_read_are_refused(logits: Path):
    labels = logits.parent / "labels.txt"
    message = r"labels.txt cannot be read \(.*\): expected a label in a line, in UTF-8"
    refused(logits, message, labels=labels)
    labels.write_bytes(b"\xff\xfe\x00")
    refused(logits, message, labels=labels)
    refused(logits, message.replace("labels.txt", ""), labels=logits.parent)


def several(*names: str) -> onnx.ModelProto:
    """A file with outputs of these names, vectors of tokens."""
    model = tiny()
    nodes = [make_node("Identity", ["last_hidden_state"], [name]) for name in names]
    append(model, nodes, {name: [ROWS, TOKENS, D] for name in names})
    return model


def test_known_outputs_come_before_others(tmp_path: Path):
    assert read(save(tmp_path, with_vector(tiny()))).output == "sentence_embedding"
    assert read(save(tmp_path, several("a", "token_embeddings")), pooling="mean").output == "token_embeddings"
    assert read(save(tmp_path, several("only")), pooling="mean").output == "only"
    both = with_vector(tiny())
    assert read(save(tmp_path, both), output="last_hidden_state", pooling="cls").output == "last_hidden_state"


def test_of_unknown_outputs_one_must_be_named(tmp_path: Path):
    path = save(tmp_path, several("first", "second"))
    told = r"first \(8 numbers a token\), second \(8 numbers a token\) is to be served with --output"
    refused(path, rf"has several outputs: say which of {told}", pooling="mean")
    refused(path, rf"has no output third: say which of {told}", pooling="mean", output="third")
    assert read(path, pooling="mean", output="second").output == "second"
    refused(save(tmp_path, with_vector(tiny())), r"sentence_embedding \(8 numbers a text\)", output="third")


@pytest.mark.parametrize("said", ["name", "labels"])
def test_logits_of_every_token_are_refused(said: str, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join("abcdefgh"))
    path = save(tmp_path, rename(tiny(), "last_hidden_state", "logits") if said == "name" else tiny())
    hints = {"labels": labels} if said == "labels" else {}
    refused(path, r"for every token: token classification and masked words cannot be served", **hints)


def test_a_classifiers_vectors_of_tokens_make_embeddings(vectors: Path):
    write(vectors.parent / "config.json", CLASSIFIER)
    assert read(vectors, pooling="mean").task == "embedding"


def test_a_pooling_must_be_said_for_vectors_of_tokens(vectors: Path):
    refused(vectors, r"vector for each token, .*: name the pooling .* by --pooling mean, cls, last, weighted or max")
    refused(vectors, r"The pooling median is unknown: mean, cls, last, weighted, max are allowed", pooling="median")
    assert read(vectors, pooling="weighted").pooling == "weighted"


def test_modules_say_the_pooling(vectors: Path):
    save_modules(vectors.parent, "Transformer", "Pooling", pooling_mode_max_tokens=True)
    assert read(vectors).pooling == read(vectors, pooling="max").pooling == "max"
    refused(vectors, r"modules.json names the pooling max, not cls: leave --pooling out", pooling="cls")


def test_vectors_of_texts_need_no_pooling(tmp_path: Path):
    path = save(tmp_path, with_vector(tiny()))
    refused(path, r"one vector of each text: leave --pooling out, or name another --output", pooling="mean")
    assert read(path, output="last_hidden_state", pooling="max").pooling == "max"


def test_dense_layers_that_the_file_lacks_are_refused(tmp_path: Path):
    path = save(tmp_path, with_vector(tiny()))
    save_modules(tmp_path, "Transformer", "Pooling", "Dense", pooling_mode="mean")
    write(tmp_path / "2_Dense" / "config.json", {"in_features": D, "out_features": 4})
    (tmp_path / "2_Dense" / "model.safetensors").touch()
    refused(path, r"lacks the Dense layers .*: export it with them", output="last_hidden_state")
    assert read(path).output == "sentence_embedding"


@pytest.mark.parametrize(
    ("config", "end", "said", "expected"),
    [
        ({}, "", None, "softmax"),
        ({"problem_type": "multi_label_classification"}, "", None, "sigmoid"),
        ({"problem_type": "single_label_classification"}, "", None, "softmax"),
        ({"problem_type": "multi_label_classification"}, "Softmax", None, "softmax"),
        ({}, "Sigmoid", None, "sigmoid"),
        ({}, "Sigmoid", "softmax", "softmax"),
        ({"problem_type": "multi_label_classification"}, "", "softmax", "softmax"),
    ],
)
def test_scores_are_what_the_user_or_the_file_or_config_says(
    config: dict[str, str], end: str, said: Any, expected: str, tmp_path: Path
):
    path = save(tmp_path, with_head(tiny(), 3, end)[0])
    write(tmp_path / "config.json", config)
    source = read(path, activation=said)
    assert source.activation == expected and source.output == ("head.raw" if end else "logits")


def test_one_logit_is_a_score_of_a_pair(tmp_path: Path):
    source = read(save(tmp_path, with_head(tiny(), 1)[0]))
    assert (source.task, source.activation, source.labels) == ("rerank", "sigmoid", ["LABEL_0"])


@pytest.mark.parametrize(
    ("end", "said", "expected"),
    [("", None, "identity"), ("", "sigmoid", "sigmoid"), ("Sigmoid", None, "sigmoid"), ("", "identity", "identity")],
)
def test_a_score_is_what_the_user_or_the_file_or_config_says(end: str, said: Any, expected: str, tmp_path: Path):
    path = save(tmp_path, with_head(tiny(), 1, end)[0])
    write(tmp_path / "config.json", {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}})
    assert read(path, activation=said).activation == expected


def test_scores_that_are_logits_are_for_rerankers(logits: Path):
    refused(logits, "identity is for a reranker", activation="identity")


def test_a_softmax_is_not_for_rerankers_and_no_activation_for_vectors(vectors: Path, tmp_path: Path):
    score = save(tmp_path / "score", with_head(tiny(), 1)[0])
    refused(score, "softmax is for several logits, a reranker has one: take sigmoid or identity", activation="softmax")
    refused(vectors, "sigmoid is for logits, .* embeddings: leave it out", pooling="mean", activation="sigmoid")
