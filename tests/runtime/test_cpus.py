import os
from pathlib import Path

import pytest

from runtime.cpus import cpu_quota, usable_cpus


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)


def write(root: Path, **files: str) -> tuple[Path, Path]:
    """A made-up file system of cgroups, and the file that says where in it this process is."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_max", ".max").replace("_cfs", ".cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root, root / "membership"


@pytest.mark.usefixtures("cpus")
def test_without_a_quota_all_cpus_are_usable(tmp_path: Path):
    assert cpu_quota(tmp_path, tmp_path / "missing") is None
    assert usable_cpus(tmp_path, tmp_path / "missing") == 6
    assert usable_cpus(*write(tmp_path, membership="0::/\n", cpu_max="max 100000\n")) == 6


@pytest.mark.usefixtures("cpus")
@pytest.mark.parametrize(
    ("quota", "expected"),
    [("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1), ("250000 50000", 5), ("900000 100000", 6)],
)
def test_quota_is_rounded_up_and_kept_within_the_cpus(tmp_path: Path, quota: str, expected: int):
    assert usable_cpus(*write(tmp_path, membership="0::/\n", cpu_max=quota)) == expected


def test_smallest_quota_of_the_groups_around_counts(tmp_path: Path):
    files = {"a__cpu_max": "300000 100000", "a__b__cpu_max": "max 100000", "a__b__c__cpu_max": "400000 100000"}
    assert cpu_quota(*write(tmp_path, membership="0::/a/b/c\n", **files)) == 3


def test_container_that_sees_its_own_group_as_the_root(tmp_path: Path):
    root, membership = write(tmp_path, membership="0::/system.slice/docker-1.scope\n", cpu_max="200000 100000")
    assert cpu_quota(root, membership) == 2


def test_quota_of_version_1(tmp_path: Path):
    files = {"cpu__docker__cpu_cfs_quota_us": "150000\n", "cpu__docker__cpu_cfs_period_us": "50000\n"}
    membership = "5:memory:/other\n4:cpu,cpuacct:/docker\n"
    assert cpu_quota(*write(tmp_path, membership=membership, **files)) == 3
    assert cpu_quota(*write(tmp_path, cpu__docker__cpu_cfs_quota_us="-1\n")) is None
