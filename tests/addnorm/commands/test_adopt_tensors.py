"""`addnorm adopt --inputs float`."""

from pathlib import Path

import numpy as np
import pytest

from runtime.artifact import read_artifact
from tests.addnorm.commands.test_adopt import flat
from tests.addnorm.test_cli import assert_complains, run
from tests.export.adopt.onnx_file.files import few_draws
from tests.export.adopt.tensors.networks import exported, rows_of


@pytest.fixture
def network(tmp_path: Path) -> list[str]:
    """A command without options."""
    (tmp_path / "net.onnx").write_bytes(exported("series"))
    np.savez(tmp_path / "rows.npz", **rows_of("series"))
    where = ["--baseline", str(tmp_path / "rows.npz"), "--models", str(tmp_path / "models")]
    return ["adopt", str(tmp_path / "net.onnx"), *where, "--name", "net", "--version", "1"]


def test_an_npz_file_says_that_the_network_reads_tensors(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with few_draws():
        code, out, complaint = run(capsys, *network)
    assert (code, complaint) == (0, "")
    for words in ("embedding, ", "2 normalization layers observed", "not observed: group", "12 rows are too few"):
        assert words in flat(out)
    assert read_artifact(tmp_path / "models" / "net" / "1").manifest.format == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text", "a"], "--text is for texts"),
        (["--pooling", "mean"], "--pooling is for texts"),
        (["--tokenizer", "a"], "--tokenizer is for texts"),
        (["--min-cosine", "0.99"], "--min-cosine is for texts"),
        (["--precision", "int8"], "keeps the precision"),
        (["--inputs", "text"], "is no file of texts"),
        (["--inputs", "text", "--folded"], "--folded is for networks that read tensors"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str], words: str, network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert_complains(capsys, [*network, *options], words)
    assert not (tmp_path / "models").exists()


def test_a_directory_reads_no_tensors(tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture[str]):
    assert_complains(capsys, ["adopt", str(tmp_path), *network[2:]], "is no ONNX file")
