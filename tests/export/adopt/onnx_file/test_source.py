"""What stands beside a file is found: its tokenizer, its settings, how many tokens a text may have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from export.adopt.onnx_file import source
from tests.export.adopt.onnx_file.files import POSITIONS, read, refused, replace_weight, save, tiny, weight, with_vector
from tests.model.pretrained.networks import save_modules, save_tokenizer, write


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """An encoder's file."""
    return save(tmp_path, tiny())


def test_the_tokenizer_lies_beside_the_file_or_above_it_or_where_is_said(tmp_path: Path):
    path = save(tmp_path / "onnx", tiny())
    write(tmp_path / "config.json", {"model_type": "above"})
    assert read(path, pooling="mean").config.content == {}
    (tmp_path / "onnx" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    assert read(path, pooling="mean").config.content == {"model_type": "above"}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tokenizer.json").rename(tmp_path / "elsewhere" / "letters.json")
    refused(
        path, r"onnx/tokenizer.json or .*/tokenizer.json is needed: say where .* is with --tokenizer", pooling="mean"
    )
    source = read(path, pooling="mean", tokenizer=tmp_path / "elsewhere" / "letters.json")
    assert source.tokenizer.encode("a b").ids == [1, 4, 5, 2] and source.config.content == {}


def test_the_tokenizer_that_is_said_must_be_there(vectors: Path):
    said = vectors.parent / "other.json"
    refused(vectors, r"other.json is needed: say where", tokenizer=said)
    said.write_text("{}")
    refused(vectors, r"other.json cannot be read \(.*\): download or save it again", tokenizer=said, pooling="mean")


def test_the_tokenizer_neither_pads_nor_truncates(vectors: Path):
    assert len(read(vectors, pooling="mean").tokenizer.encode("a b c d e f g").ids) == 9


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    model = tiny()
    replace_weight(model, "table", weight(model, "table")[:8])
    refused(save(tmp_path, model), r"tokenizer.json has the token id 19, the model 8 tokens only: they do not fit")


@pytest.mark.parametrize(
    ("modules", "said", "expected"),
    [
        ([], None, True),
        ([], False, False),
        (["Transformer", "Pooling"], None, False),
        (["Transformer", "Pooling"], True, True),
        (["Transformer", "Pooling", "Normalize"], None, True),
        (["Transformer", "Pooling", "Normalize"], False, False),
    ],
)
def test_vectors_have_length_one_unless_modules_or_the_user_say_otherwise(
    modules: list[str], said: bool | None, expected: bool, vectors: Path
):
    if modules:
        save_modules(vectors.parent, *modules, pooling_mode="mean")
    assert read(vectors, pooling="mean", normalize=said).normalize == expected


LIMITS: dict[str, Callable[[Path], object]] = {
    "tokenizer_config.json": lambda folder: write(folder / "tokenizer_config.json", {"model_max_length": 7}),
    "sentence_bert_config.json": lambda folder: write(folder / "sentence_bert_config.json", {"max_seq_length": 7}),
    "sentence_xlnet_config.json": lambda folder: write(folder / "sentence_xlnet_config.json", {"max_seq_length": 7}),
    "config.json": lambda folder: write(folder / "config.json", {"max_position_embeddings": 7}),
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_the_least_number_of_tokens_that_is_said_counts(limit: Callable[[Path], object], vectors: Path):
    write(vectors.parent / "tokenizer_config.json", {"model_max_length": int(1e30)})
    limit(vectors.parent)
    assert read(vectors, pooling="mean").max_tokens == 7
    assert read(vectors, pooling="mean", max_tokens=9).max_tokens == 9


@pytest.mark.parametrize("said", [{}, {"max_position_embeddings": POSITIONS + 2}, {"max_position_embeddings": 512}])
def test_no_more_tokens_are_read_than_the_file_has_positions(said: dict[str, int], vectors: Path):
    write(vectors.parent / "config.json", said)
    assert read(vectors, pooling="mean").max_tokens == POSITIONS


def test_more_tokens_than_the_file_reads_are_refused(vectors: Path):
    assert read(vectors, pooling="mean", max_tokens=POSITIONS).max_tokens == POSITIONS
    for more in (13, source.PROBED + 1):
        message = rf"reads 12 tokens at most: take {more} back to that with --max-tokens"
        refused(vectors, message, pooling="mean", max_tokens=more)


def test_a_limit_that_is_too_long_to_be_tried_is_tried_as_far_as_can_be(vectors: Path, monkeypatch: pytest.MonkeyPatch):
    write(vectors.parent / "tokenizer_config.json", {"model_max_length": source.PROBED + 1})
    assert read(vectors, pooling="mean").max_tokens == POSITIONS
    monkeypatch.setattr(source, "PROBED", POSITIONS)
    write(vectors.parent / "tokenizer_config.json", {"model_max_length": POSITIONS + 1})
    assert read(vectors, pooling="mean").max_tokens == POSITIONS + 1
    assert read(vectors, pooling="mean", max_tokens=POSITIONS + 2).max_tokens == POSITIONS + 2


def test_lower_casing_of_sentence_transformers_is_done_by_the_tokenizer(vectors: Path):
    assert read(vectors, pooling="mean").tokenizer.encode("A").ids == [1, 3, 2]
    write(vectors.parent / "sentence_bert_config.json", {"do_lower_case": True})
    assert read(vectors, pooling="mean").tokenizer.encode("A").ids == [1, 4, 2]


def test_files_that_disagree_on_lower_casing_are_refused(vectors: Path):
    save_word_pieces(vectors.parent)
    write(vectors.parent / "tokenizer_config.json", {"do_lower_case": True})
    refused(vectors, r"disagree on lower-casing: save the tokenizer again", pooling="mean")
    write(vectors.parent / "tokenizer_config.json", {"do_lower_case": False})
    assert read(vectors, pooling="mean").tokenizer.encode("a").ids == [4]


def save_word_pieces(folder: Path) -> None:
    save_tokenizer(folder)
    words = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    Tokenizer(models.WordPiece(words, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", [], "config.json must hold an object"),
        ("config.json", {"max_position_embeddings": "7"}, r'max_position_embeddings in .* is "7": a whole number'),
        ("config.json", {"architectures": "Bert"}, r"architectures in .*: a list is needed"),
        ("config_sentence_transformers.json", {"default_prompt_name": "a"}, "the name of one of the prompts"),
        ("sentence_bert_config.json", {"max_seq_length": "7"}, r'max_seq_length in .* is "7"'),
        ("modules.json", {}, "modules.json must hold a list"),
    ],
)
def test_settings_of_another_kind_are_refused(name: str, content: Any, message: str, vectors: Path):
    write(vectors.parent / name, content)
    refused(vectors, message, pooling="mean")


def test_files_that_are_no_files_do_not_hang(vectors: Path):
    os.mkfifo(vectors.parent / "config.json")
    refused(vectors, r"config\.json cannot be read \(it is not a regular file\)", pooling="mean")
    (vectors.parent / "config.json").unlink()
    os.mkfifo(vectors.parent / "labels.txt")
    pooled = save(vectors.parent, with_vector(tiny()))
    refused(pooled, "labels.txt cannot be read", output="sentence_embedding", labels=vectors.parent / "labels.txt")


@pytest.mark.parametrize(("modules", "expected"), [(("Pooling",), False), (("Pooling", "Normalize"), True), ((), True)])
def test_a_file_that_pools_itself_is_normalized_as_modules_json_says(
    modules: tuple[str, ...], expected: bool, tmp_path: Path
):
    path = save(tmp_path, with_vector(tiny()))
    if modules:
        save_modules(tmp_path, "Transformer", *modules, pooling_mode="mean")
    assert read(path).normalize == expected
