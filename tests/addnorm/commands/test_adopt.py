"""`addnorm adopt`: what is handed on, and what is told of what was adopted."""

from pathlib import Path
from typing import Any

import pytest

from addnorm.cli import main
from export.adopt.directory import adopter
from export.adopt.directory.adopter import Adopted
from export.adopt.onnx_file import adopter as onnx_adopter
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from export.precision.choice import Asked
from export.timing import with_manifest
from runtime.artifact import Artifact
from runtime.precision import Precision
from tests.addnorm.commands.conftest import command
from tests.addnorm.test_cli import run
from tests.adopted import make_texts

ERRORS = {"embedding": 1.23e-7, "means": 4e-8}


class Called(dict[str, Any]):
    """What adoption was asked for, by the names of its arguments."""


@pytest.fixture
def called(embedding_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Called:
    """Adoption gives the artifact that is there already, with errors of ours."""
    called = Called()

    def adopt(
        directory: Path, texts: Texts, target: Path, pooling: str | None, overwrite: bool, progress: Any, asked: Asked
    ) -> Adopted:
        called.update(directory=directory, texts=texts, target=target, pooling=pooling, overwrite=overwrite)
        called["asked"] = asked
        progress(len(texts.inputs), len(texts.inputs))
        return Adopted(embedding_artifact, ERRORS, called.get("accuracy"))

    monkeypatch.setattr(adopter, "adopt_directory", adopt)
    return called


def flat(out: str) -> str:
    """What was printed, however wide the terminal is."""
    return " ".join(out.split())


def test_what_was_adopted_is_told(
    called: Called, embedding_artifact: Artifact, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, complaint = run(capsys, *command(tmp_path, texts, "--models", str(tmp_path / "here")))
    assert (code, complaint) == (0, "")
    size = sum(len(content) for content in embedding_artifact.files.values()) / 1e6
    for words in (
        f"embedding, {size:.2f} MB, 17,824 parameters, 5 normalization layers observed",
        "verified: embedding within 1.2e-07 of what was adopted",
        "verified: means within 4.0e-08 of what was adopted",
        "12 texts are too few for a verdict on drift: adopt with 300 or more",
        "graph plan on onnxruntime",
    ):
        assert words in flat(out)
    assert "accuracy" not in out and "not observed" not in out
    assert called["target"] == tmp_path / "here" / "mine" / "3"
    assert (called["directory"], called["pooling"], called["overwrite"]) == (tmp_path, None, False)
    assert called["texts"] == Texts(make_texts(12), None)


def test_accuracy_is_told_where_there_are_labels(
    called: Called, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    called["accuracy"] = 0.98765
    _, out, _ = run(capsys, *command(tmp_path, texts))
    assert "accuracy on the texts: 0.9877" in flat(out)


@pytest.mark.parametrize(("count", "words"), [(299, "too few for a verdict"), (300, "enough to notice"), (1500, "")])
def test_advice_depends_on_how_many_texts_there_are(
    count: int, words: str, called: Called, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "many.txt").write_text("\n".join(make_texts(count)))
    code, out, _ = run(capsys, *command(tmp_path, tmp_path / "many.txt"))
    assert (code, len(called["texts"].inputs)) == (0, count)
    assert f"{count} texts are {words}" in flat(out) if words else "texts are" not in flat(out)


def test_networks_run_in_the_threads_that_may_be_used(
    called: Called, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    threads: list[object] = []
    monkeypatch.setattr("model.training.device.set_threads", lambda: threads.append(dict(called)))
    assert main(command(tmp_path, texts)) == 0
    assert threads == [{}] and called, "set before the network is read"


def test_options_are_handed_on(called: Called, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.csv").write_text("\n".join(["q,a,kind", *["what,that,x"] * 10]))
    columns = ["--text", "q", "--text-pair", "a", "--label", "kind"]
    code, _, _ = run(
        capsys,
        *command(
            tmp_path,
            tmp_path / "a.csv",
            *columns,
            *("--pooling", "cls", "--overwrite", "--precision", "int8", "--min-cosine", "0.98"),
            version="12",
        ),
    )
    assert code == 0
    assert called["target"] == Path("models/mine/12")
    assert called["texts"] == Texts([["what", "that"]] * 10, ["x"] * 10)
    assert (called["pooling"], called["overwrite"], called["asked"]) == ("cls", True, Asked("int8", 0.98))


def test_options_of_a_file_are_handed_on(
    embedding_artifact: Artifact, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
):
    called: list[Any] = []

    def adopt(*arguments: Any) -> Adopted:
        called.extend([*arguments[:-2], arguments[-1]])
        return Adopted(embedding_artifact, ERRORS, None)

    monkeypatch.setattr(onnx_adopter, "adopt_file", adopt)
    options = ["--tokenizer", "t.json", "--labels", "l.txt", "--output", "y", "--activation", "sigmoid"]
    options += ["--max-tokens", "12", "--normalize", "false", "--pooling", "max", "--precision", "bf16"]
    code, _, complaint = run(capsys, *command(tmp_path / "net.onnx", texts, *options))
    hints = Hints(Path("t.json"), Path("l.txt"), "y", "max", "sigmoid", 12, False)
    assert (code, complaint) == (0, "")
    assert called == [
        tmp_path / "net.onnx",
        Texts(make_texts(12), None),
        Path("models/mine/3"),
        hints,
        False,
        Asked("bf16"),
    ]


def test_lower_precision_is_told(
    embedding_artifact: Artifact,
    texts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    measured = Precision(
        kind="int8",
        agreement=0.9876,
        mean_cosine=0.99712,
        worst_cosine=0.98,
        mean_deviation=0.0123,
        variance_deviation=0.02,
        speed={"batch 1": 1.2},
        size={"fp32": 4_000_000, "int8": 1_000_000},
    )
    lowered = with_manifest(embedding_artifact, precision=measured)
    monkeypatch.setattr(adopter, "adopt_directory", lambda *_: Adopted(lowered, ERRORS, None))
    _, out, _ = run(capsys, *command(tmp_path, texts, "--precision", "int8"))
    for words in (
        "graph: fp32 4.00 MB, int8 1.00 MB; int8 / fp32 speed on this CPU: batch 1 1.20",
        "cosine to fp32: 0.99712 on average, 0.98000 at worst; same label for 98.76% of the texts",
        "a layer's mean moved by at most 0.0123 of its sigma, its variance by 2.00%",
    ):
        assert words in flat(out)
