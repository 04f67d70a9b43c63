"""What makes a reranker's score of its logit: as sentence-transformers has it."""

from pathlib import Path
from typing import Any

import pytest

from model.pretrained.source import read_directory
from runtime.errors import ExportError
from tests.model.pretrained.networks import change, write

IDENTITY = "torch.nn.modules.linear.Identity"
RELEVANCE = [
    ({}, "sigmoid"),
    ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}}, "identity"),
    ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
    ({"sbert_ce_default_activation_function": IDENTITY}, "identity"),
    ({"sentence_transformers": {"version": "4.1.0"}, "sbert_ce_default_activation_function": None}, "sigmoid"),
]


@pytest.mark.parametrize(("settings", "expected"), RELEVANCE)
def test_the_score_of_a_reranker_is_that_of_sentence_transformers(
    settings: dict[str, Any], expected: str, directory: Path
) -> None:
    change(directory, architectures=["BertForSequenceClassification"], num_labels=1, **settings)
    assert read_directory(directory).activation == expected
    write(directory / "config_sentence_transformers.json", {"activation_fn": IDENTITY})
    assert read_directory(directory).activation == "identity"
    change(directory, num_labels=3)
    assert read_directory(directory).activation == "softmax"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "activation_fn in .*Tanh"),
        ({"sbert_ce_default_activation_function": "mine.Softplus"}, "sbert_ce_.*config.json is .*Softplus"),
        ({"sentence_transformers": {"activation_fn": ""}}, "activation_fn"),
    ],
)
def test_another_score_of_a_reranker_is_refused(settings: dict[str, Any], said: str, directory: Path) -> None:
    change(directory, architectures=["BertForSequenceClassification"], num_labels=1, **settings)
    with pytest.raises(ExportError, match=rf"{said}.*: only Sigmoid and Identity can be adopted\.$"):
        read_directory(directory)
