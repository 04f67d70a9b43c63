from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.pretrained.modules import DenseLayer
from model.pretrained.source import read_directory
from runtime.errors import ExportError
from tests.model.pretrained.networks import change, save_modules, write


def sharded(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    write(directory / "model.safetensors.index.json", {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})


def test_a_directory_of_sentence_transformers_says_everything(directory: Path) -> None:
    save_modules(directory, "Transformer", "Pooling", "Dense", "Normalize", pooling_mode_lasttoken=True)
    dense = {"in_features": 32, "out_features": 8, "activation_function": "torch.nn.modules.linear.Identity"}
    write(directory / "2_Dense" / "config.json", dense)
    (directory / "2_Dense" / "model.safetensors").touch()
    write(directory / "sentence_bert_config.json", {"max_seq_length": 50})
    write(directory / "tokenizer_config.json", {"model_max_length": int(1e30)})
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    write(directory / "config_sentence_transformers.json", prompts)
    source = read_directory(directory)
    assert (source.task, source.labels, source.pooling, source.normalize) == ("embedding", [], "last", True)
    assert source.dense == [DenseLayer(32, 8, True, "identity", directory / "2_Dense" / "model.safetensors")]
    assert (source.prompts, source.default_prompt) == ({"query": "query: "}, "query")
    assert (source.max_tokens, source.vocab_size, source.type_ids) == (50, 60, False)
    assert source.config["hidden_size"] == 32 and source.path == directory


def test_the_tokenizer_neither_pads_nor_truncates(directory: Path) -> None:
    tokenizer = read_directory(directory, "mean").tokenizer
    assert len(tokenizer.encode("a b c d e f g").ids) == 9


@pytest.mark.parametrize("package", ["models.Pooling", "sentence_transformer.modules.pooling.Pooling"])
@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "weightedmean"}, "weighted"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({}, "mean"),
    ],
)
def test_old_and_new_names_of_poolings_are_read(
    package: str, settings: dict[str, Any], pooling: str, directory: Path
) -> None:
    save_modules(directory, "Transformer", "Pooling", **settings)
    listed = (directory / "modules.json").read_text()
    (directory / "modules.json").write_text(listed.replace("models.Pooling", package))
    assert read_directory(directory).pooling == pooling


def test_the_encoder_may_lie_in_a_folder(directory: Path) -> None:
    save_modules(directory, "Transformer", "Pooling")
    folder = directory / "0_Transformer"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (directory / name).rename(folder / name)
    listed = (directory / "modules.json").read_text()
    (directory / "modules.json").write_text(listed.replace('"path": ""', '"path": "0_Transformer"'))
    assert read_directory(directory).path == folder


@pytest.mark.parametrize(
    ("settings", "limits", "expected"),
    [
        ({}, {}, 64),
        ({"model_type": "roberta", "pad_token_id": 1}, {}, 62),
        ({"model_type": "mpnet", "pad_token_id": 5}, {}, 62),
        ({}, {"model_max_length": 40.0}, 40),
        ({}, {"model_max_length": 512}, 64),
    ],
)
def test_the_least_limit_of_tokens_counts(
    settings: dict[str, Any], limits: dict[str, Any], expected: int, directory: Path
) -> None:
    change(directory, **settings)
    write(directory / "tokenizer_config.json", limits)
    source = read_directory(directory, "mean")
    assert source.max_tokens == expected
    assert source.position_offset == (0 if source.model_type == "bert" else 2)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"id2label": {"1": "good", "0": "bad"}}, ("classification", ["bad", "good"], "softmax", True)),
        ({"id2label": {"0": "score"}}, ("rerank", ["score"], "sigmoid", True)),
        ({"problem_type": "multi_label_classification"}, ("classification", ["LABEL_0", "LABEL_1"], "sigmoid", True)),
        ({"type_vocab_size": 1}, ("classification", ["LABEL_0", "LABEL_1"], "softmax", False)),
        ({"model_type": "distilbert"}, ("classification", ["LABEL_0", "LABEL_1"], "softmax", False)),
    ],
)
def test_the_architecture_says_the_task(settings: dict[str, Any], expected: Any, directory: Path) -> None:
    change(directory, architectures=["BertForSequenceClassification"], **settings)
    source = read_directory(directory)
    assert (source.task, source.labels, source.activation, source.type_ids) == expected
    assert source.pooling == "cls"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["input_ids", "attention_mask"], False), (["input_ids", "token_type_ids"], True), (None, True)],
)
def test_token_types_are_left_out_where_transformers_leaves_them_out(
    names: list[str] | None, expected: bool, directory: Path
) -> None:
    change(directory, architectures=["BertForSequenceClassification"])
    write(directory / "tokenizer_config.json", {"model_input_names": names})
    assert read_directory(directory).type_ids == expected


@pytest.mark.parametrize("name", ["BertForTokenClassification", "BertForQuestionAnswering"])
def test_a_head_that_answers_something_else_is_refused(name: str, directory: Path) -> None:
    change(directory, architectures=[name])
    with pytest.raises(ExportError, match=rf"^architectures in .*{name} answers something else than labels.*\.$"):
        read_directory(directory, "mean")


def test_space_around_a_text_is_left_out_as_sentence_transformers_does(directory: Path) -> None:
    assert not read_directory(directory, "mean").strip
    change(directory, architectures=["BertForSequenceClassification"], id2label={"0": "score"})
    assert read_directory(directory).strip
    change(directory, architectures=["BertModel"])
    save_modules(directory, "Transformer", "Pooling", pooling_mode_mean_tokens=True)
    assert read_directory(directory).strip


def test_lower_casing_of_sentence_transformers_is_done_by_the_tokenizer(directory: Path) -> None:
    assert read_directory(directory, "mean").tokenizer.encode("A").ids == [1, 3, 2]
    write(directory / "sentence_bert_config.json", {"do_lower_case": True})
    assert read_directory(directory, "mean").tokenizer.encode("A").ids == [1, 4, 2]


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def pooled(**settings: Any) -> Callable[[Path], None]:
    return lambda directory: save_modules(directory, "Transformer", "Pooling", **settings)


def listing(*kinds: str) -> Callable[[Path], None]:
    return lambda directory: save_modules(directory, *kinds)


def configured(**settings: Any) -> Callable[[Path], None]:
    return lambda directory: change(directory, **settings)


def written(name: str, content: Any) -> Callable[[Path], None]:
    return lambda directory: write(directory / name, content)


def removed(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


CLASSIFIER = ["BertForSequenceClassification"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickled, "pickled weights only.*safe_serialization=True"),
        (removed("model.safetensors"), "has no model.safetensors"),
        (sharded, r"lacks b.safetensors, which model.safetensors.index.json lists"),
        (removed("tokenizer.json"), "has no tokenizer.json.*AutoTokenizer"),
        (written("tokenizer.json", {}), "tokenizer.json cannot be read"),
        (removed("config.json"), "config.json cannot be read"),
        (lambda path: (path / "config.json").write_text("{"), "config.json is no JSON"),
        (written("config.json", []), "config.json must hold an object"),
        (configured(auto_map={"AutoModel": "x.Y"}), "has an auto_map.*never run"),
        (configured(model_type="t5"), "of the type t5 cannot be packed, only bert, .*adopt that file"),
        (configured(model_type=None), "left out|leaves out"),
        (configured(vocab_size="60"), 'vocab_size in .* is "60": a whole number is needed'),
        (configured(vocab_size=8), "token id 19, the model 8 tokens only"),
        (configured(is_decoder=True), "is_decoder in .* is true: only False can be adopted"),
        (configured(model_type="deberta-v2", conv_kernel_size=3), "conv_kernel_size in .* is 3"),
        (configured(quantization_config={"bits": 4}), "quantized weights cannot be adopted"),
        (configured(model_type="roberta", max_position_embeddings=1), "positions begin at 1"),
        (configured(architectures=CLASSIFIER, id2label={"1": "good"}), "it must name the labels from 0 to 0"),
        (configured(architectures=CLASSIFIER, num_labels=-1), "num_labels in .* is -1: a whole number from 1 on"),
        (configured(architectures=CLASSIFIER, problem_type="regression"), "several outputs cannot be adopted"),
        (configured(architectures=CLASSIFIER, model_type="eurobert"), "is late, and only cls, bos, mean can"),
        (pooled(pooling_mode="mean_sqrt_len_tokens"), "the pooling mean_sqrt_len_tokens, and only one of mean"),
        (pooled(pooling_mode_cls_token=True, pooling_mode_max_tokens=True), "the pooling cls and max, and only one"),
        (pooled(pooling_mode="cls", include_prompt=False), "without the prompt's tokens cannot be adopted"),
        (pooled(pooling_mode="cls"), "was made for the pooling cls, not mean: leave the pooling out"),
        (listing("Transformer", "Pooling", "LSTM"), "lists LSTM, and only Transformer, Pooling, Dense, Normalize"),
        (listing("Transformer", "Normalize", "Pooling"), "lists Transformer, Normalize, Pooling: one Transformer"),
        (written("modules.json", [{"type": "x.Transformer", "path": "../other"}]), "must lie inside the directory"),
        (written("modules.json", [7]), "must give every module a type and a path"),
        (written("config_sentence_transformers.json", {"prompts": {"a": 1}}), "an object of texts is needed"),
        (written("config_sentence_transformers.json", {"default_prompt_name": "a"}), "the name of one of the prompts"),
    ],
)
def test_what_cannot_be_adopted_is_refused_in_a_sentence(
    spoil: Callable[[Path], object], message: str, directory: Path
) -> None:
    spoil(directory)
    with pytest.raises(ExportError, match=message) as refused:
        read_directory(directory, "mean")
    assert "\n" not in str(refused.value)


def test_an_embedding_without_a_pooling_is_refused(directory: Path) -> None:
    with pytest.raises(ExportError, match=r"does not say how token vectors become one.*mean, cls, last, weighted, max"):
        read_directory(directory)


def test_an_unknown_pooling_is_refused(directory: Path) -> None:
    with pytest.raises(ExportError, match="The pooling median is unknown: mean"):
        read_directory(directory, "median")


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is no directory"):
        read_directory(tmp_path / "nothing", "mean")
