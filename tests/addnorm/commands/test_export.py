"""`addnorm export`: what its options allow, and what is told of the verdict."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from addnorm.cli import main
from addnorm.commands.export import tell_accuracy, tell_verdict
from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.manifest import BASELINE
from tests.addnorm.test_cli import assert_complains


@pytest.mark.parametrize(
    ("fixture", "least"),
    [
        ("embedding_artifact", "it takes 300"),
        ("rerank_artifact", "it takes 300"),
        ("multilabel_artifact", "it takes 60, and 4 of every class"),
    ],
)
def test_how_many_texts_a_verdict_takes_depends_on_the_task(fixture: str, least: str, request: pytest.FixtureRequest):
    artifact: Artifact = request.getfixturevalue(fixture)
    few = replace(read_baseline(artifact), reference=None)
    told = tell_verdict(replace(artifact, files=artifact.files | {BASELINE: few.to_json()}))
    assert told == f"verdict: none, {few.state.requests} held-out requests are too few to judge by; {least}"


def test_what_a_verdict_notices_is_told_by_the_window(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    shares: dict[int, float | None] = {50: 0.3, 200: 0.241, 1000: 0.209}
    baseline = replace(read_baseline(text_artifact), reference=SimpleNamespace(would_show=shares.get))
    monkeypatch.setattr("addnorm.commands.export.read_baseline", lambda _: baseline)
    told = "it notices 30 % unlike requests among 50, 24 % among 200, 21 % among 1,000"
    assert tell_verdict(text_artifact).endswith(f" held-out requests as baseline; {told}")
    shares |= dict.fromkeys(shares)
    assert tell_verdict(text_artifact).endswith(" held-out requests as baseline")


def test_without_a_test_split_its_accuracy_is_left_out():
    facts = {"validation_accuracy": 0.5, "test_accuracy": None}
    assert tell_accuracy(facts) == "accuracy: validation 0.5000"
    assert tell_accuracy(facts | {"test_accuracy": 0.25}) == "accuracy: validation 0.5000, test 0.2500"


def test_networks_run_in_the_threads_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    threads: list[bool] = []
    monkeypatch.setattr("model.training.device.set_threads", lambda: threads.append(True))
    assert main(["export", str(tmp_path / "none"), "--name", "mine", "--version", "1"]) == 2  # there is no run
    assert threads


def test_a_name_that_no_folder_can_have_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["export", str(tmp_path), "--name", "a" * 256, "--version", "1"]
    assert_complains(capsys, asked, "name", "at most 255 characters")
