"""What `addnorm adopt` cannot do is told in one line."""

from pathlib import Path

import pytest

from runtime.artifact import Artifact
from tests.addnorm.commands.conftest import command
from tests.addnorm.test_cli import assert_complains
from tests.adopted import EMBEDDING, RERANK, source_of


@pytest.mark.parametrize("option", ["--tokenizer", "--labels", "--output"])
def test_options_of_a_file_are_not_for_directories(
    option: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert_complains(capsys, command(tmp_path, texts, option, "a"), f"{option} is for ONNX files", "leave it out")


def test_a_least_cosine_is_for_a_lower_precision(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for source in (tmp_path, tmp_path / "a.onnx"):
        asked = command(source, texts, "--min-cosine", "0.99")
        assert_complains(capsys, asked, "--min-cosine is for a lower precision", "leave it out")


def test_a_file_keeps_its_precision(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = command(tmp_path / "a.onnx", texts, "--precision", "int8")
    assert_complains(capsys, asked, "--precision int8 is for directories", "expected fp32 or bf16 or auto")


def test_a_file_that_is_missing_is_told_in_one_line(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "tokenizer.json").write_text("{}")
    assert_complains(capsys, command(tmp_path / "a.onnx", texts), "a.onnx cannot be read", "ONNX file")


def test_a_directory_that_is_missing_is_told_in_one_line(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert_complains(capsys, command(tmp_path / "nowhere", texts), "nowhere is no directory", "config.json")


def test_an_artifact_that_exists_is_not_replaced(
    embedding_artifact: Artifact, shared_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = command(source_of(EMBEDDING, shared_path), texts, name="letters", version="1")
    models = ["--models", str(embedding_artifact.path.parent.parent)]
    assert_complains(capsys, [*arguments, *models], "letters/1 exists already", "--overwrite")


def test_a_reranker_wants_pairs(shared_path: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = command(source_of(RERANK, shared_path), texts, "--models", str(tmp_path / "models"))
    assert_complains(capsys, arguments, "pairs of texts", "--text-pair")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("one\ntwo\n", "has 2 texts: expected 10 or more"),
        ("a,b\n" * 20, "has no columns"),
    ],
)
def test_texts_that_are_no_use_are_told_in_one_line(
    content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if content is not None:
        (tmp_path / "a.txt").write_text(content)
    more = ["--text", "a"] if content and "," in content else []
    assert_complains(capsys, command(tmp_path, tmp_path / "a.txt", *more), words)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ".."}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a" * 256}, "at most 255 characters"),
        ({"version": "0"}, "version"),
        ({"version": "one"}, "version"),
    ],
    ids=str,
)
def test_names_and_versions_that_are_no_use_are_told_in_one_line(
    arguments: dict[str, str], word: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert_complains(capsys, command(tmp_path, texts, **arguments), word)


def test_an_unknown_pooling_is_told_in_one_line(texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert_complains(capsys, command(tmp_path, texts, "--pooling", "sum"), "pooling", "'mean'")


@pytest.mark.parametrize("left_out", ["--baseline", "--name", "--version"])
def test_what_is_left_out_is_told_in_one_line(
    left_out: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = command(tmp_path, texts)
    place = arguments.index(left_out)
    assert_complains(capsys, arguments[:place] + arguments[place + 2 :], left_out.strip("-"))
