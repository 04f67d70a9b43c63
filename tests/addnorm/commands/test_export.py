"""`addnorm export`: what its options allow, and what is told of the verdict."""

from dataclasses import replace
from pathlib import Path

import pytest

from addnorm.commands.export import tell_verdict
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


def test_a_name_that_no_folder_can_have_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["export", str(tmp_path), "--name", "a" * 256, "--version", "1"]
    assert_complains(capsys, asked, "name", "at most 255 characters")
