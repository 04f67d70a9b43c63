import json
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import StateError
from runtime.graph.encoder import Encoder
from runtime.store.kept import read_kept
from service.norm_stats.interface import AllLayers, Comparison, WindowQuery
from service.norm_stats.pool import RETIRED, CollectorPool
from service.settings import Settings
from tests.helpers import Export, random_sequences, rewrite


@pytest.fixture
def versions(text_artifact: Artifact, tmp_path: Path) -> list[Artifact]:
    """More versions of one model than stay open."""
    found = []
    for version in map(str, range(RETIRED + 2)):
        path = rewrite(tmp_path / version, text_artifact, version=version)
        found.append(Artifact(path, text_artifact.manifest.model_copy(update={"version": version}).sealed(), {}))
    return [Artifact(one.path, one.manifest, text_artifact.files) for one in found]


def requests(collectors: CollectorPool, artifact: Artifact) -> int:
    return int(json.loads(collectors[artifact.manifest.digest].report(AllLayers(WindowQuery())))["requests"])


def test_each_version_counts_its_own_and_keeps_it(
    versions: list[Artifact], text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    collectors = CollectorPool(Settings(state=tmp_path / "state"))
    batch = text_encoder.run(random_sequences(text_export[1], 3))
    for artifact in versions[:2]:
        collectors.open(artifact).observe(batch, 0.1)
    collectors.open(versions[1]).observe(batch, 0.1)
    assert [requests(collectors, artifact) for artifact in versions[:2]] == [3, 6]
    collectors.keep()
    collectors.close()
    kept = [read_kept(path).document for path in (tmp_path / "state").glob("*.sqlite")]
    assert sorted((each.version, each.state.requests) for each in kept) == [("0", 3), ("1", 6)]
    assert requests_again(versions[1], tmp_path) == 6


def requests_again(artifact: Artifact, tmp_path: Path) -> int:
    collectors = CollectorPool(Settings(state=tmp_path / "state"))
    collectors.open(artifact)
    return requests(collectors, artifact)


def test_last_few_unserved_stay_open_and_the_others_are_kept(
    versions: list[Artifact], text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    collectors = CollectorPool(Settings(state=tmp_path / "state"))
    batch = text_encoder.run(random_sequences(text_export[1], 3))
    for artifact in versions:
        collectors.open(artifact).observe(batch, 0.1)
        collectors.retain({artifact.manifest.digest})
    assert collectors.get(versions[0].manifest.digest) is None
    assert all(collectors.get(artifact.manifest.digest) for artifact in versions[1:])
    (path,) = (tmp_path / "state").glob("*.sqlite")  # nobody else saved by now
    assert read_kept(path).document.version == "0"
    collectors.open(versions[0])
    assert requests(collectors, versions[0]) == 3
    collectors.close()


def test_returning_artifact_finds_its_collector(versions: list[Artifact]):
    collectors = CollectorPool(Settings())
    first = collectors.open(versions[0])
    collectors.retain(set())
    assert collectors.open(versions[0]) is first


def test_versions_of_one_process_are_compared(
    versions: list[Artifact], text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    collectors = CollectorPool(Settings(state=tmp_path / "state"))
    batch = text_encoder.run(random_sequences(text_export[1], 3))
    for artifact in versions[:2]:
        collectors.open(artifact).observe(batch, 0.1)
    collectors.keep()  # both hold their files now
    found = json.loads(collectors[versions[1].manifest.digest].report(Comparison(WindowQuery(), "version:0")))
    assert (found["against_version"], found["against"]["requests"]) == ("0", 3)
    with pytest.raises(StateError):
        collectors[versions[1].manifest.digest].report(Comparison(WindowQuery(), "version:1"))
    collectors.close()
