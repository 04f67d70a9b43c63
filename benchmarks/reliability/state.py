"""Faults of the state directory: files damaged, the disk full, the supervisor killed while it writes."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.reliability.faults import Clients
from benchmarks.reliability.service import TEXT, Service, serving

ASKED = 20  # predictions before the fault
BLOCK = 4096  # bytes of a page of the disk
DISK = 2 << 20  # bytes


def overwritten(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 50)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def zeroed(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + bytes(len(content[at : at + BLOCK])) + content[at + BLOCK :]


DAMAGES: list[Callable[[random.Random, bytes], bytes]] = [
    overwritten,
    zeroed,
    lambda rng, content: content[: rng.randrange(len(content))],
    lambda rng, content: content + rng.randbytes(BLOCK),
    lambda rng, content: rng.randbytes(len(content)),
    lambda _rng, _content: b"",
]


def damaged(count: int = 40, seed: int = 1) -> Counter[str]:
    """Starts a service on each damaged state: it starts, answers, and its statistics can be asked for."""
    rng, found = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        with serving("--workers", "1", state=str(whole)) as service:
            predict(service, ASKED)
        files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
        for number in range(count):
            state = Path(folder) / str(number)
            shutil.copytree(whole, state)
            broken = state / rng.choice(files)
            broken.write_bytes(rng.choice(DAMAGES)(rng, broken.read_bytes()))
            try:
                with serving("--workers", "1", state=str(state)) as service:
                    predict(service, 1)
                    requests = service.ask("/norm-stats")["requests"]
                    found["tracebacks"] += service.tracebacks
                found["counts kept" if requests == ASKED + 1 else "counts set aside"] += 1
                found["wrong counts"] += requests not in (1, ASKED + 1)
            except (RuntimeError, OSError, KeyError):
                found["broken"] += 1
    return found


def full(count: int = 200) -> Counter[str]:
    """Fills the disk: clients are answered, the service says that it cannot write, and later writes all."""
    found = Counter[str]()
    with small_disk() as disk:
        if disk is None:
            return Counter({"without a small disk": 1})
        with serving("--workers", "2", state=str(disk / "state")) as service:
            predict(service, ASKED)
            with suppress(OSError), (disk / "other").open("wb", 0) as other:
                while True:
                    other.write(bytes(BLOCK))
            predict(service, count)
            found["failure not told"] = int(not comes_true(lambda: disk_fails(service)))
            (disk / "other").unlink()
            found["recovery not told"] = int(not comes_true(lambda: not disk_fails(service)))
            found["tracebacks"] = service.tracebacks
        with serving("--workers", "1", state=str(disk / "state")) as again:
            found["counts kept"] = again.ask("/norm-stats")["requests"]
    found["counts lost"] = ASKED + count - found["counts kept"]
    return found


def orphaned(count: int = 5, seed: int = 1) -> Counter[str]:
    """Kills the supervisor under load: workers end, and what was answered until a second before is kept."""
    rng, found = random.Random(seed), Counter[str]()
    for _ in range(count):
        with tempfile.TemporaryDirectory() as state:
            with serving("--workers", "2", state=state) as service:
                with Clients(service, 4, pause=0.01) as asking:
                    time.sleep(2.0 + rng.random())
                    long_ago = asking.found["answered"]
                    time.sleep(1.2)  # the last second may be lost
                    workers = service.workers
                    service.process.send_signal(signal.SIGKILL)
                    asking.ended.set()
                found["left running"] += not comes_true(lambda pids=workers: not any(map(is_running, pids)))
            with serving("--workers", "1", state=state) as again:
                kept = again.ask("/norm-stats")["requests"]
            found["counts lost"] += max(0, long_ago - kept)
            found["counted in the last second, and lost"] += max(0, asking.found["answered"] - kept)
            found["supervisors killed"] += 1
    return found


def predict(service: Service, times: int) -> None:
    for _ in range(times):
        service.ask("/predict", TEXT)["predictions"]


def disk_fails(service: Service) -> bool:
    return bool(service.ask("/health/ready")["statistics"] == "disk_failing")


def comes_true(holds: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return held


def is_running(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@contextmanager
def small_disk() -> Iterator[Path | None]:
    """A disk of DISK bytes in memory; None where none can be had (it takes root on Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["-t", "tmpfs", "-o", f"size={DISK}", "addnorm", folder]
        if os.getuid() or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
