"""`python -m benchmarks.scaling.cost`: what it costs a replica to tell others what it counts, and to report on all.

    python -m benchmarks.scaling.cost [push] [report]      needs redis-server; two minutes

Time is the process's own (CPU), where nothing else is said; the store's is not in it.
"""

import argparse
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean, median

import redis
from rich.console import Console
from rich.table import Table

from benchmarks.scaling import many, push
from runtime.artifact import read_artifact
from runtime.manifest import Manifest
from service.fleet.redis_store import RedisStore
from service.settings import EMBEDDED

PORT, READY = 6391, 10.0
NORMS, BAR_NORMS = (5, 13, 25), 13
BAR_PUSH, BAR_REPORT = 1.0, 100.0  # milliseconds a second; milliseconds
PARTS = ("push", "report")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.cost", description="What a fleet costs.")
    parser.add_argument("parts", nargs="*", help=f"which: {', '.join(PARTS)}; both by default")
    parser.add_argument("--replicas", type=int, default=many.REPLICAS, help="of the fleet that is reported on")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no {unknown[0]!r}, there is {', '.join(PARTS)}")
    if shutil.which("redis-server") is None:
        parser.error("needs redis-server (apt-get install redis-server)")
    logging.getLogger("addnorm.fleet").setLevel(logging.ERROR)  # made-up time goes faster than the store's
    console, parts = Console(width=120), options.parts or PARTS
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    held = True
    if "push" in parts:
        held &= pushes(console)
    if "report" in parts:
        held &= reports(console, options.replicas)
    return int(not held)


def pushes(console: Console) -> bool:
    """What telling costs; whether it is below the bar."""
    names = ("norms", "what is told", "made, ms", "sent, ms", "both, ms", "bytes")
    table, held, manifest = Table(*names, title="a push, median of two minutes"), True, read_artifact(EMBEDDED).manifest
    for norms in NORMS:
        found = measure(norms, manifest)
        for kind in (push.FIGURES, push.HISTOGRAMS):
            made, sent, size = (median(each[kind]) for each in (found.published, found.sent, found.size))
            table.add_row(str(norms), kind, f"{made:.2f}", f"{sent:.2f}", f"{made + sent:.2f}", f"{size:,.0f}")
        figures, all_told = a_second(found)
        adding_up = found.observed - found.alone
        table.add_row("", "folding that is done there, not elsewhere", "", "", f"{adding_up:.2f}", "")
        table.add_row("", "a second: that and figures", "", "", f"{figures + adding_up:.2f}", "")
        table.add_row(
            "", "a second: that and all, on average", "", "", f"{all_told + adding_up:.2f}", "", end_section=True
        )
        held &= norms != BAR_NORMS or figures + adding_up < BAR_PUSH
    console.print(table)
    console.print(f"figures of {BAR_NORMS} norms below {BAR_PUSH:g} ms a second: {'held' if held else 'FAILED'}")
    return held


def measure(norms: int, manifest: Manifest) -> push.Pushes:
    with redis_server() as url:
        return push.measure(norms, manifest, RedisStore(url))


def a_second(found: push.Pushes) -> tuple[float, float]:
    """Milliseconds of a second: of figures alone, and of all that is told, the seconds with histograms among them."""
    figures = median(found.published[push.FIGURES]) + median(found.sent[push.FIGURES])
    every = [spent for kinds in (found.published, found.sent) for each in kinds.values() for spent in each]
    return figures, sum(every) / push.SECONDS


def reports(console: Console, replicas: int) -> bool:
    """What a large fleet costs one of its replicas; whether a report is below the bar."""
    with redis_server() as url:
        found = many.measure(read_artifact(EMBEDDED), url, replicas)
        memory = redis.Redis.from_url(url).info("memory")["used_memory"]
    table = Table("what", "found", title=f"{replicas} replicas, the embedded model, a full hour and a full day")
    table.add_row("the others told", f"{found.shares:,} shares, {found.told / 1e6:.0f} MB")
    table.add_row("memory of the store", f"{memory / 1e6:.0f} MB")
    table.add_row("first turn of one that starts", f"{found.first / 1e3:.1f} s, in {found.first_waited / 1e3:.1f} s")
    table.add_row("a turn, median", f"{median(found.turns):.0f} ms, mean {mean(found.turns):.0f} ms a second")
    for window, times in found.reports.items():
        table.add_row(f"report of {window}, median (clock)", f"{median(times):.0f} ms, slowest {max(times):.0f} ms")
    console.print(table)
    held = median(found.reports["1h"]) < BAR_REPORT
    console.print(f"the report of 1h below {BAR_REPORT:g} ms: {'held' if held else 'FAILED'}")
    return held


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of an empty redis-server on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"port": str(PORT), "bind": "127.0.0.1", "save": "", "dir": folder}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_ready(process)
            yield f"redis://127.0.0.1:{PORT}"
        finally:
            process.kill()
            process.wait()


def wait_ready(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY
    while True:
        try:
            redis.Redis(port=PORT).ping()
            return
        except redis.RedisError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("redis-server does not start") from error
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
