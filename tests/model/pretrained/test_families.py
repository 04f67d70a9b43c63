import os
from pathlib import Path

import numpy as np
import pytest

from model.pretrained.families import FAMILIES
from tests.model.pretrained.networks import (
    SETTINGS,
    Texts,
    adopted,
    check,
    export,
    random_texts,
    reference,
    run,
    save_network,
)

# an export takes seconds: of the others by ALL_FAMILIES=1
EXPORTED = list(FAMILIES) if os.environ.get("ALL_FAMILIES") else ["bert", "deberta-v2"]
CLASSES = 3


@pytest.mark.parametrize("model_type", FAMILIES)
def test_embeddings_of_packed_texts_are_those_of_texts_alone(model_type: str, tmp_path: Path) -> None:
    network = save_network(tmp_path, model_type)
    source, module = adopted(tmp_path, "mean")
    assert (source.task, source.type_ids, module.d_model) == ("embedding", False, 32)
    texts = random_texts(types=False)
    check(run(module, texts), reference(network, texts, "mean"))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_logits_of_packed_texts_are_those_of_texts_alone(model_type: str, tmp_path: Path) -> None:
    network = save_network(tmp_path, model_type, CLASSES)
    source, module = adopted(tmp_path)
    assert (source.task, source.activation, len(source.labels)) == ("classification", "softmax", CLASSES)
    texts = random_texts(source.type_ids)
    check(run(module, texts), reference(network, texts, source.pooling, source.type_ids))


@pytest.mark.parametrize("model_type", EXPORTED)
def test_the_exported_graph_computes_the_same(model_type: str, tmp_path: Path) -> None:
    network = save_network(tmp_path, model_type, CLASSES)
    source, module = adopted(tmp_path)
    texts = random_texts(source.type_ids)
    graph = export(module, texts)
    for some in (texts, Texts(texts.ids[:1], texts.types[:1]), Texts(texts.ids[1:2], texts.types[1:2])):
        check(graph(some), reference(network, some, source.pooling, source.type_ids))


def test_a_reranker_reads_pairs_by_their_token_types(tmp_path: Path) -> None:
    network = save_network(tmp_path, "bert", classes=1)
    source, module = adopted(tmp_path)
    assert (source.task, source.activation, source.type_ids) == ("rerank", "sigmoid", True)
    assert module.input_names[-1] == "type_ids"
    pairs = [source.tokenizer.encode("a b", "c d e"), source.tokenizer.encode("f", "g")]
    texts = Texts(*([np.array(getattr(pair, part)) for pair in pairs] for part in ("ids", "type_ids")))
    assert texts.types[1].tolist() == [0, 0, 0, 1, 1]
    check(run(module, texts), reference(network, texts, "cls", types=True))


@pytest.mark.parametrize(
    ("model_type", "pooling"), [("modernbert", "mean"), ("modernbert", "cls"), ("eurobert", "bos")]
)
def test_a_classifier_pools_as_its_config_says(model_type: str, pooling: str, tmp_path: Path) -> None:
    network = save_network(tmp_path, model_type, CLASSES, classifier_pooling=pooling)
    source, module = adopted(tmp_path)
    assert source.pooling == pooling.replace("bos", "cls")
    texts = random_texts(types=False)
    check(run(module, texts), reference(network, texts, source.pooling))


def test_families_of_the_table_are_tested() -> None:
    assert set(SETTINGS) == set(FAMILIES)
