"""Parquet, where pyarrow is installed, and what is said where it is not."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from tests.addnorm.scoring.files import command, read_jsonl, save_jsonl, scored
from tests.addnorm.test_cli import assert_complains, run
from tests.adopted import make_texts
from tests.helpers import TEXTS

with_pyarrow = pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")


def save(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def read(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is there")
def test_without_pyarrow_it_is_said_what_to_install(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.parquet").touch()
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi"}])
    out = tmp_path / "out"
    assert_complains(capsys, command(tmp_path / "a.parquet", out, text_artifact), "pip install pyarrow")
    assert_complains(capsys, command(source, out, text_artifact, "--format", "parquet"), "pip install pyarrow")
    assert not out.exists()


@with_pyarrow
def test_predictions_are_those_of_the_same_rows_in_json_lines(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts, keys = TEXTS * 30, list(range(7, 7 + 30 * len(TEXTS)))
    columnar = save(tmp_path / "a.parquet", {"text": texts, "key": keys}, row_group_size=10_000)
    lines = save_jsonl(
        tmp_path / "a.jsonl", [{"text": text, "key": key} for text, key in zip(texts, keys, strict=True)]
    )
    scored(capsys, columnar, tmp_path / "one", text_artifact, "--id", "key")
    scored(capsys, lines, tmp_path / "two", text_artifact, "--id", "key")
    table = read(tmp_path / "one" / "predictions.parquet")
    assert table.to_pylist() == read_jsonl(tmp_path / "two" / "predictions.jsonl")
    assert [str(field.type) for field in table.schema] == ["int64", "string", "double", "int64", "bool"]
    states = [json.loads((tmp_path / name / "state.json").read_text())["state"] for name in ("one", "two")]
    assert states[0] == states[1]


@with_pyarrow
def test_embeddings_are_lists_of_numbers(
    embedding_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save(tmp_path / "a.parquet", {"text": make_texts(8)})
    scored(capsys, source, tmp_path / "out", embedding_artifact)
    table = read(tmp_path / "out" / "predictions.parquet")
    assert str(table.schema.field("embedding").type) == "list<element: double>"
    assert {len(vector) for vector in table["embedding"].to_pylist()} == {embedding_artifact.manifest.d_model}


@with_pyarrow
def test_float_sequences_can_be_columns(feature_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save(tmp_path / "a.parquet", {"features": [[[0.5] * 4] * 3, [[1.0] * 4]]})
    assert "2 rows scored." in scored(capsys, source, tmp_path / "out", feature_artifact)


@with_pyarrow
def test_bad_rows_and_files_are_named(text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import pyarrow

    out, source = tmp_path / "out", tmp_path / "a.parquet"
    save(source, {"text": ["hi", None, "you"]})
    assert_complains(capsys, command(source, out, text_artifact), "row 2: 'text' is null", "--skip-bad")
    scored(capsys, source, out, text_artifact, "--skip-bad")
    assert read(out / "predictions.parquet")["label"].to_pylist()[1] is None
    save(source, {"text": pyarrow.array([b"Z\xfcrich", b"hi"]).view(pyarrow.string())})
    assert_complains(capsys, command(source, tmp_path / "no", text_artifact), "row 1: 'text' is no UTF-8")
    save(source, {"question": ["hi"]})
    assert_complains(capsys, command(source, tmp_path / "no", text_artifact), "no column 'text', it has 'question'")
    save(source, {"text": pyarrow.array([], pyarrow.string())})
    assert_complains(capsys, command(source, tmp_path / "no", text_artifact), "has no rows")
    save(source, {"text": ["hi there", "you"] * 100})
    whole = source.read_bytes()
    for broken in (whole[:-9], b"PAR1" + bytes(80) + whole[84:], b"", b"text\nhi\n"):
        source.write_bytes(broken)
        assert_complains(capsys, command(source, tmp_path / "no", text_artifact), "cannot be read", "Parquet")


@with_pyarrow
def test_names_of_rows_of_several_types_are_refused(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi", "key": 1}, {"text": "hi", "key": "b"}])
    arguments = command(source, tmp_path / "out", text_artifact, "--id", "key", "--format", "parquet")
    assert_complains(capsys, arguments, "cannot hold such values", "--format")
    code, _, _ = run(capsys, *command(source, tmp_path / "out", text_artifact, "--id", "key"))
    assert code == 0
