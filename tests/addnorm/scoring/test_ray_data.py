"""A Ray cluster scores, where Ray is installed; what is said where it is not."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from tests.addnorm.scoring.files import command, save_jsonl
from tests.addnorm.test_cli import assert_complains


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is there")
def test_without_ray_it_is_said_what_to_install(
    text_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = save_jsonl(tmp_path / "a.jsonl", [{"text": "hi"}])
    assert_complains(capsys, command(source, tmp_path / "out", text_artifact, "--ray"), "pip install 'ray[data]'")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[data]'")
@pytest.mark.filterwarnings("default")  # those of Ray are not ours
def test_a_cluster_that_loses_a_node_gives_what_one_process_gives(text_artifact: Artifact, tmp_path: Path):
    from benchmarks.scaling.ray_score import NODES, lose_a_node

    trial = lose_a_node(text_artifact, tmp_path, 20_000)
    assert (trial.rows, trial.alive, trial.differences) == (20_000, NODES - 1, [])
