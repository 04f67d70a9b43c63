"""Tokenizers that would read texts in another way than transformers are refused; limits leave room for a text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from model.pretrained.source import read_directory, read_encoder
from runtime.errors import ExportError
from tests.model.pretrained.networks import change, write

WORDS = {name: number for number, name in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "##e"])}


def save_word_pieces(directory: Path, **normalizer: Any) -> None:
    """A tokenizer as BERT's, whose normalizer lowers, strips accents and parts Chinese signs unless told otherwise."""
    tokenizer = Tokenizer(models.WordPiece(WORDS, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))


def save_byte_level(directory: Path, add_prefix_space: bool) -> None:
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "[UNK]"]
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.save(str(directory / "tokenizer.json"))
    change(directory, vocab_size=len(letters))


def refused(directory: Path, message: str) -> None:
    with pytest.raises(ExportError, match=message) as found:
        read_directory(directory, "mean")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("normalizer", "said", "disagrees"),
    [
        ({}, {"strip_accents": None, "tokenize_chinese_chars": True, "do_lower_case": True}, None),
        ({}, {"strip_accents": True}, None),
        ({}, {"strip_accents": False}, "strip_accents"),
        ({}, {"tokenize_chinese_chars": False}, "tokenize_chinese_chars"),
        ({}, {"strip_accents": False, "tokenizer_class": "PreTrainedTokenizerFast"}, None),
        ({}, {"strip_accents": False, "tokenizer_class": "BertTokenizerFast"}, "strip_accents"),
        ({"strip_accents": False}, {}, None),
        ({"strip_accents": False}, {"strip_accents": False}, None),
        ({"strip_accents": False}, {"strip_accents": None}, "strip_accents"),
        ({"lowercase": False}, {"strip_accents": None}, None),
        ({"lowercase": False}, {"strip_accents": True}, "strip_accents"),
        ({"handle_chinese_chars": False}, {"tokenize_chinese_chars": True}, "tokenize_chinese_chars"),
    ],
    ids=str,
)
def test_files_that_disagree_on_what_is_normalized_are_refused(
    normalizer: dict[str, Any], said: dict[str, Any], disagrees: str | None, directory: Path
) -> None:
    save_word_pieces(directory, **normalizer)
    write(directory / "tokenizer_config.json", said)
    if disagrees is None:
        assert read_directory(directory, "mean").tokenizer.encode("a").ids == [4]
    else:
        refused(directory, rf"and {disagrees} in tokenizer_config.json disagree: .* with save_pretrained\.$")


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize("said", [True, False, None])
def test_files_that_disagree_on_a_space_before_the_text_are_refused(
    does: bool, said: bool | None, directory: Path
) -> None:
    save_byte_level(directory, does)
    write(directory / "tokenizer_config.json", {"add_prefix_space": said})
    if said in (does, None):
        assert len(read_directory(directory, "mean").tokenizer.encode("a").ids) == 1 + does
    else:
        refused(directory, r"and add_prefix_space in tokenizer_config.json disagree")


def cut(directory: Path, side: str) -> None:
    file = directory / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(5, direction=side)
    tokenizer.save(str(file))


def test_a_tokenizer_that_cuts_the_beginning_is_refused(directory: Path) -> None:
    write(directory / "tokenizer_config.json", {"truncation_side": "left"})
    refused(
        directory, r'truncation_side in .* is "left": texts are cut at their end here, only right can be adopted\.$'
    )
    cut(directory, "left")
    write(directory / "tokenizer_config.json", {"truncation_side": "right"})  # it counts, as in transformers
    assert read_directory(directory, "mean").tokenizer.truncation is None
    (directory / "tokenizer_config.json").unlink()
    refused(directory, r"truncation in .*tokenizer.json is left: texts are cut at their end here")


@pytest.mark.parametrize("model", [models.WordPiece, models.WordLevel])
def test_an_unknown_token_outside_the_vocabulary_is_refused(model: Callable[..., Any], directory: Path) -> None:
    Tokenizer(model(WORDS, unk_token="[NONE]")).save(str(directory / "tokenizer.json"))
    refused(directory, r"tokenizer.json cannot read every text \(.*\): its unknown token must be in its vocabulary")


@pytest.mark.parametrize(
    ("sentence", "tokenizer", "expected"),
    [(40, 16, 40), (16, 40, 16), (100, 16, 64), (None, 16, 16), (0, 16, 16), (10**12, 16, 64)],
)
def test_what_sentence_transformers_says_wins_over_the_tokenizer_but_not_over_the_positions(
    sentence: int | None, tokenizer: int, expected: int, directory: Path
) -> None:
    write(directory / "sentence_bert_config.json", {"max_seq_length": sentence})
    write(directory / "tokenizer_config.json", {"model_max_length": tokenizer})
    assert read_directory(directory, "mean").max_tokens == expected


@pytest.mark.parametrize(("limit", "pairs", "added"), [(1, False, 2), (2, False, 2), (3, True, 3)])
def test_a_limit_without_room_for_a_text_is_refused(limit: int, pairs: bool, added: int, directory: Path) -> None:
    write(directory / "tokenizer_config.json", {"model_max_length": limit})
    source = read_directory(directory, "mean")
    with pytest.raises(ExportError, match=rf"^A limit of {limit} .* adds {added} special .*: {added + 1} are needed"):
        source.check_room(pairs)
    write(directory / "tokenizer_config.json", {"model_max_length": added + 1})
    read_directory(directory, "mean").check_room(pairs)


def test_an_encoder_without_room_for_a_text_is_not_trained_on(directory: Path) -> None:
    write(directory / "tokenizer_config.json", {"model_max_length": 2})
    with pytest.raises(ExportError, match=r"^A limit of 2 tokens"):
        read_encoder(directory, ["one", "two"])


@pytest.mark.parametrize("architecture", ["BertModel", "BertForSequenceClassification"])
def test_token_types_that_the_network_does_not_know_are_refused(architecture: str, directory: Path) -> None:
    file = directory / "tokenizer.json"
    described = json.loads(file.read_bytes())
    change(directory, architectures=[architecture])
    if architecture == "BertModel":
        described["post_processor"]["single"][1]["Sequence"]["type_id"] = 5
    else:
        described["post_processor"]["pair"][-2]["Sequence"]["type_id"] = 5
    write(file, described)
    with pytest.raises(ExportError, match=r"^type_vocab_size in .* is null: tokenizer.json gives the type 5, 6 are"):
        read_directory(directory, "mean" if architecture == "BertModel" else None)
    change(directory, type_vocab_size=6)
    assert read_directory(directory, "mean" if architecture == "BertModel" else None).type_ids
