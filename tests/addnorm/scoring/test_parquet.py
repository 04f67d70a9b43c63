"""Parquet, where pyarrow is installed, and what is said where it is not."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from addnorm.scoring import chunks, parquet
from runtime.artifact import Artifact
from runtime.errors import DataError
from runtime.store.document import StateDocument
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
    files = [tmp_path / name / "state.json" for name in ("one", "two")]
    one, two = (StateDocument.from_json(file.read_bytes(), str(file)).state for file in files)
    assert (one.requests, one.tokens, one.traffic.counts.tolist()) == (
        two.requests,
        two.tokens,
        two.traffic.counts.tolist(),
    )
    np.testing.assert_array_equal(one.histograms, two.histograms)
    for name in ("mean", "m2", "minimum", "maximum"):  # sums depend on how memory is aligned, in the last bits
        np.testing.assert_allclose(getattr(one.moments, name), getattr(two.moments, name), rtol=1e-10, atol=1e-15)


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
    assert_complains(capsys, command(source, tmp_path / "no", text_artifact), "no column 'text'; it has 'question'")
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


TEXT_TYPES = {"label": "string", "score": "double", "tokens": "int64", "truncated": "bool"}
BEST = "list<element: struct<label: string, score: double>>"


def types(path: Path) -> dict[str, str]:
    return {field.name: str(field.type) for field in read(path).schema}


@with_pyarrow
@pytest.mark.parametrize("top_k", [1, 2])
def test_first_chunk_may_have_no_answer(
    top_k: int,
    text_artifact: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    source = save(tmp_path / "a.parquet", {"text": [None, None, "hi", "you", None, None]})
    scored(capsys, source, tmp_path / "out", text_artifact, "--skip-bad", "--top-k", str(top_k))
    written = tmp_path / "out" / "predictions.parquet"
    assert [row["label"] is not None for row in read(written).to_pylist()] == [False, False, True, True, False, False]
    assert types(written) == {"row": "int64", **TEXT_TYPES, **({"top": BEST} if top_k > 1 else {})}


@with_pyarrow
def test_first_chunk_may_have_no_embedding_or_relevance(
    embedding_artifact: Artifact,
    rerank_artifact: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    texts = [None, None, *make_texts(2)]
    source = save(tmp_path / "a.parquet", {"text": texts, "d": texts})
    counts = {"tokens": "int64", "truncated": "bool"}
    scored(capsys, source, tmp_path / "one", embedding_artifact, "--skip-bad")
    found = types(tmp_path / "one" / "predictions.parquet")
    assert found == {"row": "int64", "embedding": "list<element: double>", **counts}
    scored(capsys, source, tmp_path / "two", rerank_artifact, "--skip-bad", "--text-pair", "d")
    assert types(tmp_path / "two" / "predictions.parquet") == {"row": "int64", "score": "double", **counts}


@with_pyarrow
@pytest.mark.parametrize(
    ("key", "kind"), [(7, "int64"), ("b", "string"), (None, "string"), ([1], "list<element: int64>")]
)
def test_type_of_the_names_is_that_of_the_first_one(
    key: Any,
    kind: str,
    text_artifact: Artifact,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    keys = [None, None, None, None, None, key, None, None]
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi", "key": each} for each in keys])
    scored(capsys, source, tmp_path / "out", text_artifact, "--id", "key", "--format", "parquet")
    written = tmp_path / "out" / "predictions.parquet"
    assert read(written)["key"].to_pylist() == keys and types(written) == {"key": kind, **TEXT_TYPES}


@with_pyarrow
def test_a_column_of_nulls_can_name_rows(text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "log"
    folder.mkdir()
    save(folder / "a.parquet", {"text": ["hi"], "key": [None]})
    save(folder / "b.parquet", {"text": ["hi"], "key": [5]})
    scored(capsys, folder, tmp_path / "out", text_artifact, "--id", "key")
    written = tmp_path / "out" / "predictions.parquet"
    assert read(written)["key"].to_pylist() == [None, 5] and types(written)["key"] == "int64"


@with_pyarrow
def test_chunks_without_a_name_are_held_back_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "HELD_CHUNKS", 3)
    writer = parquet.ParquetWriter(tmp_path / "a.parquet", parquet.answer_types(["label"]))
    for count in (1, 2, 0, 0):
        writer.write([{"key": None, "label": None}])
        assert len(writer.held) == count
    with pytest.raises(DataError, match="cannot hold such values"):
        writer.write([{"key": 5, "label": None}])
    writer.close()
    assert types(tmp_path / "a.parquet") == {"key": "string", "label": "string"}


@with_pyarrow
def test_name_of_a_row_that_is_no_utf_8_is_left_out(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import pyarrow

    source = tmp_path / "a.parquet"
    save(source, {"text": ["hi", "you"], "key": pyarrow.array([b"Z\xfcrich", b"b"]).view(pyarrow.string())})
    for kind in ("parquet", "jsonl"):
        more = ["--id", "key", "--skip-bad", "--format", kind]
        assert "1 skipped" in scored(capsys, source, tmp_path / kind, text_artifact, *more)
    rows = read(tmp_path / "parquet" / "predictions.parquet").to_pylist()
    assert [row["key"] for row in rows] == [None, "b"]
    assert rows == read_jsonl(tmp_path / "jsonl" / "predictions.jsonl")


@with_pyarrow
def test_names_of_rows_may_be_lists_of_what_json_has_not(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save(tmp_path / "a.parquet", {"text": ["hi"], "key": [[b"\xff"]]})
    for kind in ("parquet", "jsonl"):
        scored(capsys, source, tmp_path / kind, text_artifact, "--id", "key", "--format", kind)
    assert read(tmp_path / "parquet" / "predictions.parquet")["key"].to_pylist() == [[b"\xff"]]
    assert read_jsonl(tmp_path / "jsonl" / "predictions.jsonl")[0]["key"] == ["_w=="]
