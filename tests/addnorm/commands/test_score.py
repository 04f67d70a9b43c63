"""`addnorm score`, as a user runs it."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from addnorm.commands.score import Score, run_with_bar
from addnorm.scoring import chunks
from runtime.artifact import Artifact
from runtime.console import PlainConsole
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import EMBEDDED, Settings
from tests.addnorm.scoring.files import command, read_csv, read_jsonl, save_csv, save_jsonl, scored
from tests.addnorm.test_cli import assert_complains, run
from tests.adopted import make_pairs, make_texts
from tests.apps import make_app
from tests.helpers import TEXTS

ODD = [f"the {animal} is rarely seen near {place}" for animal in ("eel", "bear") for place in ("norway", "a lake")]
TIMES = {"since", "since_between", "until", "episodes", "alert", "window", "overhead_ratio"}  # a file has no times
SAMPLED = {"deep", "features"}  # the service looks deeply at other rows
BINNED = {"p01", "p50", "p99", "psi", "wasserstein"}  # of histograms: rounding moves a token to the next bucket


def assert_alike(found: Any, expected: Any, name: str = "") -> None:
    """The same report, but for times and for what is sampled: figures to 1e-6."""
    if isinstance(expected, dict):
        for key in expected.keys() - TIMES - SAMPLED:
            assert_alike(found[key], expected[key], key)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other, name)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0.02 if name in BINNED else 1e-6, abs=1e-6), name
    else:
        assert found == expected, name


def test_answers_are_the_services_in_the_order_of_the_file(
    client: TestClient, text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts = [*TEXTS, "word " * 30]
    source = save_csv(tmp_path / "a.csv", [["topic", "text"], *(["x", text] for text in texts)])
    out = scored(capsys, source, tmp_path / "out", text_artifact)
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    assert [row["row"] for row in rows] == [str(number) for number in range(1, len(texts) + 1)]
    for start in range(0, len(texts), 8):
        body = client.post("/predict", json={"inputs": texts[start : start + 8]}).json()
        for row, expected in zip(rows[start : start + 8], body["predictions"], strict=True):
            assert row["label"] == expected["label"]
            assert float(row["score"]) == pytest.approx(expected["score"], abs=1e-5)
            assert (row["tokens"], row["truncated"]) == (str(expected["tokens"]), str(expected["truncated"]).lower())
    truncated = sum(row["truncated"] == "true" for row in rows)
    assert truncated and f"{len(texts)} rows scored, {truncated} of them truncated." in out


@pytest.mark.parametrize("texts", [ODD * 40, TEXTS * 5], ids=["unlike", "others"])
def test_report_and_verdict_are_the_services(texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    settings = Settings(device="cpu", model=EMBEDDED)
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        for start in range(0, len(texts), 50):
            client.post("/predict", json={"inputs": texts[start : start + 50]}).raise_for_status()
        expected = client.get("/norm-stats", params={"window": "all"}).json()
    source = save_jsonl(tmp_path / "log.jsonl", [{"text": text} for text in texts])
    printed = scored(capsys, source, tmp_path / "out", EMBEDDED)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report.keys() - expected.keys() == {"scoring"} and not expected.keys() - report.keys()
    assert report["requests"] == report["window"]["requests"] == len(texts)
    assert report["window"].keys() == expected["window"].keys()
    assert_alike(report, expected)
    assert f"{expected['verdict']['state']}: " in printed
    assert " ".join(expected["verdict"]["sentence"].split()) in " ".join(printed.split())


def test_state_is_what_stats_merge_reads(text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS])
    before = scored(capsys, source, tmp_path / "out", text_artifact)
    state = str(tmp_path / "out" / "state.json")
    code, once, _ = run(capsys, "stats", "merge", state, "--model", str(text_artifact.path))
    assert code == 0 and before.startswith(once)
    scored(capsys, source, tmp_path / "again", text_artifact)
    other = str(tmp_path / "again" / "state.json")
    _, twice, _ = run(capsys, "stats", "merge", state, other, "--model", str(text_artifact.path))
    assert f"{2 * len(TEXTS)} requests" in twice


def test_processes_give_what_one_gives(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 16)
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in TEXTS * 5])
    scored(capsys, source, tmp_path / "one", text_artifact)
    scored(capsys, source, tmp_path / "two", text_artifact, "--processes", "2")
    one, two = ((tmp_path / name / "predictions.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    states = [json.loads((tmp_path / name / "state.json").read_text()) for name in ("one", "two")]
    for each in reports:
        del each["since"], each["window"]
    assert reports[0] == reports[1]
    assert states[0]["state"] == states[1]["state"] and states[0]["deep"] == states[1]["deep"]


@pytest.mark.parametrize(("more", "name"), [([], "predictions.jsonl"), (["--format", "csv"], "predictions.csv")])
def test_format_and_id_can_be_chosen(
    more: list[str], name: str, text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": text, "key": f"k{n}"} for n, text in enumerate(TEXTS)])
    scored(capsys, source, tmp_path / "out", text_artifact, "--id", "key", *more)
    rows = (read_csv if name.endswith("csv") else read_jsonl)(tmp_path / "out" / name)
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(len(TEXTS))]
    assert list(rows[0]) == ["key", "label", "score", "tokens", "truncated"]
    assert {each.name for each in (tmp_path / "out").iterdir()} == {name, "report.json", "state.json"}


def test_files_of_a_directory_are_one_log(text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "log"
    folder.mkdir()
    save_jsonl(folder / "b.jsonl", [{"text": text} for text in TEXTS[3:]])
    save_csv(folder / "a.csv", [["text"], *([text] for text in TEXTS[:3])])
    for other in ("notes.txt", ".hidden.csv", "_SUCCESS.csv"):
        (folder / other).write_text("x")
    scored(capsys, folder, tmp_path / "out", text_artifact)
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    names = [(row["file"], int(row["row"])) for row in rows]
    assert names == [*(("a.csv", n) for n in (1, 2, 3)), *(("b.jsonl", n + 1) for n in range(len(TEXTS) - 3))]


def test_classes_can_be_several(multilabel_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in make_texts(5)])
    scored(capsys, source, tmp_path / "out", multilabel_artifact, "--top-k", "3")
    for row in read_jsonl(tmp_path / "out" / "predictions.jsonl"):
        assert {each["label"] for each in row["top"]} == {"card", "loan", "rent"}
        assert row["top"][0] == {"label": row["label"], "score": row["score"]}
    arguments = command(source, tmp_path / "csv", multilabel_artifact, "--top-k", "3", "--format", "csv")
    assert_complains(capsys, arguments, "CSV cannot hold", "jsonl or parquet")


def test_embeddings_are_lists(embedding_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save_csv(tmp_path / "a.csv", [["text"], *([text] for text in make_texts(8))])
    scored(capsys, source, tmp_path / "out", embedding_artifact, "--format", "jsonl")
    rows = read_jsonl(tmp_path / "out" / "predictions.jsonl")
    vectors = np.array([row["embedding"] for row in rows])
    assert vectors.shape == (8, embedding_artifact.manifest.d_model)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert_complains(capsys, command(source, tmp_path / "csv", embedding_artifact), "embeddings", "--format jsonl")
    assert_complains(capsys, command(source, tmp_path / "csv", embedding_artifact, "--top-k", "2"), "for classifiers")
    assert not (tmp_path / "csv").exists()


def test_pairs_get_scores(rerank_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs = make_pairs(6)
    source = save_jsonl(tmp_path / "a.jsonl", [{"q": query, "d": document} for query, document in pairs])
    scored(capsys, source, tmp_path / "out", rerank_artifact, "--text", "q", "--text-pair", "d")
    rows = read_jsonl(tmp_path / "out" / "predictions.jsonl")
    settings = Settings(model=rerank_artifact.path, device="cpu")
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        for row, (query, document) in zip(rows, pairs, strict=True):
            body = client.post("/rerank", json={"query": query, "documents": [document]}).json()
            assert row["score"] == pytest.approx(body["results"][0]["relevance_score"], abs=1e-5)
    assert_complains(capsys, command(source, tmp_path / "no", rerank_artifact, "--text", "q"), "--text-pair")
    save_jsonl(source, [{"q": "a", "d": ["b"]}])
    arguments = command(source, tmp_path / "no", rerank_artifact, "--text", "q", "--text-pair", "d")
    assert_complains(capsys, arguments, "line 1: 'd' is a list, expected a text;")


def test_float_sequences_are_scored(feature_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng = np.random.default_rng(0)
    rows = [{"features": rng.normal(size=(length, 4)).tolist()} for length in (1, 5, 12, 20)]
    source = save_jsonl(tmp_path / "a.jsonl", rows)
    assert "4 rows scored, 1 of them truncated" in scored(capsys, source, tmp_path / "out", feature_artifact)
    assert [row["tokens"] for row in read_jsonl(tmp_path / "out" / "predictions.jsonl")] == [1, 5, 12, 12]
    save_jsonl(source, [*rows, {"features": [[1.0, 2.0]]}])
    assert_complains(capsys, command(source, tmp_path / "no", feature_artifact), "line 5: 'features' has shape 1x2")
    save_jsonl(source, [*rows, {"features": [[float("nan")] * 4]}])
    assert_complains(capsys, command(source, tmp_path / "no", feature_artifact), "line 5", "NaN or infinite")
    save_jsonl(source, [*rows, {"features": [[3e38] * 4]}])
    assert_complains(capsys, command(source, tmp_path / "no", feature_artifact), "line 5", "overflows the model")


def test_a_terminal_shows_how_far_it_is(text_artifact: Artifact, tmp_path: Path):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi"}] * 3)
    score = Score(source=source, out=tmp_path / "out", model=text_artifact.path, device="cpu", processes=1)
    console = PlainConsole(file=io.StringIO(), force_terminal=True)
    _, tally = run_with_bar(score.job(text_artifact), text_artifact, console)
    assert tally.rows == 3 and "3 rows scored" in console.file.getvalue() and "100%" in console.file.getvalue()
