"""`python -m benchmarks.scaling.fleet --data DATA`: three replicas on three hosts, and all that breaks between them.

The hosts are network namespaces, the store is Debian's redis-server: Linux, as root. Replicas are killed and cut off,
the store loses what it held; then the fleet's statistics must be what clients counted, and what one process counts.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from benchmarks.scaling.campaign import Check, fleet
from benchmarks.scaling.faults import Times, break_all
from benchmarks.scaling.network import missing

FULL, QUICK = (10_000, Times(cut=20.0, down=5.0, load=8.0)), (600, Times(cut=4.0, down=1.0, load=3.0))
EXCHANGES = ("store", "peers")
INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling.fleet", description="Breaks a fleet of three.")
    parser.add_argument("exchanges", nargs="*", help=f"how replicas meet: {', '.join(EXCHANGES)}; both by default")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with clinc150/")
    parser.add_argument("--requests", type=int, help="how many; 10,000 by default")
    parser.add_argument("--quick", action="store_true", help="600 requests and shorter faults: a minute")
    options = parser.parse_args()
    if unknown := [name for name in options.exchanges if name not in EXCHANGES]:
        parser.error(f"there is no {unknown[0]!r}, there is {', '.join(EXCHANGES)}")
    trouble = missing() or ("" if shutil.which("redis-server") else "needs redis-server (apt-get install redis-server)")
    if trouble:
        parser.error(trouble)
    requests, times = QUICK if options.quick else FULL
    asked = questions(options.data, options.requests or requests)
    for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT is ignored where a shell started this in the background
        signal.signal(number, interrupt)
    failed = False
    for name in options.exchanges or EXCHANGES:
        started = time.monotonic()
        checks = run(name, asked, times)
        failed |= not all(check.held for check in checks)
        show(f"{name}: {len(asked):,} requests, {time.monotonic() - started:.0f} s", checks)
    return int(failed)


def run(name: str, asked: list[str], times: Times) -> list[Check]:
    """Everything that is done to one fleet; nothing of it is left."""
    with tempfile.TemporaryDirectory() as folder, fleet(name, Path(folder), name == "store") as replicas:
        break_all(replicas, asked, times)
        return replicas.checks


def questions(data: Path, count: int) -> list[str]:
    """So many of clinc150's test questions, again from the first where there are fewer."""
    test = json.loads((data / "clinc150" / "data_full.json").read_text())["test"]
    return list(islice(cycle(text for text, _ in test), count))


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Ends this with everything removed."""
    raise KeyboardInterrupt


def show(title: str, checks: Sequence[Check]) -> None:
    table = Table("what", "found", "", title=title, title_justify="left")
    for check in checks:
        table.add_row(check.what, check.found, "held" if check.held else "FAILED")
    Console(width=140).print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
