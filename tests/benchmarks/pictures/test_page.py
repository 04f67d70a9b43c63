"""What the pictures of the page are drawn of."""

from pathlib import Path

import pytest

from benchmarks.pictures import page
from runtime.artifact import read_artifact
from runtime.store.kept import read_kept
from service.settings import EMBEDDED


def test_traffic_that_is_made_up_is_kept_where_a_service_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAST", 8 * page.STEP)
    page.record(tmp_path, ["what is my account balance"], ["der schnelle braune fuchs"])
    manifest = read_artifact(EMBEDDED).manifest
    (file,) = tmp_path.iterdir()
    kept = read_kept(file).check(manifest, str(file))
    assert kept.document.state.requests >= 8 and kept.buckets
