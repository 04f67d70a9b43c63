import pytest

from service.cpus import share_cpus
from service.settings import Settings


@pytest.mark.parametrize(
    ("cpus", "workers", "threads", "expected"),
    [
        (1, 0, 0, (1, 1)),
        (4, 0, 0, (4, 1)),
        (32, 0, 0, (8, 4)),
        (4, 1, 0, (1, 4)),
        (4, 3, 0, (3, 1)),
        (2, 5, 0, (5, 1)),
        (4, 0, 2, (4, 2)),
        (4, 2, 3, (2, 3)),
    ],
)
def test_cpus_are_shared_among_workers(cpus: int, workers: int, threads: int, expected: tuple[int, int]):
    settings = share_cpus(Settings(device="cpu", workers=workers, threads=threads), cpus)
    assert (settings.workers, settings.threads) == expected
    assert share_cpus(settings, 64) == settings


def test_one_worker_has_the_gpu_unless_more_are_asked_for():
    assert share_cpus(Settings(device="cuda"), 4).workers == 1
    assert share_cpus(Settings(device="cuda", workers=2), 4).workers == 2


def test_cpus_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.cpus.usable_cpus", lambda: 3)
    assert share_cpus(Settings(device="cpu")).workers == 3
