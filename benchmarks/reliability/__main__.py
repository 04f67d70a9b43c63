"""`python -m benchmarks.reliability`: attacks and faults against real services, a line of figures for each.

docs/reliability.md says what is promised, and what was found.
"""

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.reliability.faults import hangs, kills, rolls, silence, turns
from benchmarks.reliability.frames import frames
from benchmarks.reliability.grpc_faults import grpc_kills, grpc_rolls
from benchmarks.reliability.overload import overload
from benchmarks.reliability.proxy import smuggling
from benchmarks.reliability.soak import soak
from benchmarks.reliability.state import damaged, full, orphaned
from benchmarks.reliability.streams import streams
from benchmarks.reliability.swaps import swaps

# what is done, and how often: by default, and with --quick
PARTS: dict[str, tuple[Callable[[int], Counter[str]], int, int]] = {
    "streams": (streams, 12_000, 1500),
    "smuggling": (smuggling, 60, 30),
    "silence": (silence, 11_000, 500),
    "kills": (kills, 100, 5),
    "rolls": (rolls, 25, 3),
    "frames": (frames, 10_000, 1000),
    "grpc-kills": (grpc_kills, 50, 5),
    "grpc-rolls": (grpc_rolls, 20, 3),
    "hangs": (hangs, 5, 1),
    "turns": (turns, 200, 50),
    "damaged": (damaged, 40, 5),
    "full": (full, 200, 50),
    "orphaned": (orphaned, 5, 1),
    "swaps": (swaps, 50, 10),
    "overload": (overload, 5, 1),
    "soak": (soak, 120, 20),
}
NEVER = (
    "5xx",
    "wrong pairings",
    "answers that are no HTTP",
    "whole streams refused",
    "left in flight",
    "tracebacks",
    "victims",
    "never closed",
    "hung after 6 s",
    "hung",
    "without status",
    "never answered again",
    "not rolled",
    "forged lines",
    "still there",
    "counts lost",
    "goodput too low",
    "failure not told",
    "recovery not told",
    "left running",
    "grows",
)


def faults_of(name: str, found: Counter[str]) -> list[str]:
    """What was found that must never be."""
    never = [*NEVER, *([] if name in ("kills", "orphaned") else ["broken"])]
    return [what for what, count in found.items() if count and (what in never or what.startswith(("wrong", "status")))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description="Attacks and faults.")
    parser.add_argument("parts", nargs="*", help=f"which: {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--quick", action="store_true", help="six minutes in the place of thirty")
    parser.add_argument("--count", type=int, help="how often each is done")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no {unknown[0]!r}, there is {', '.join(PARTS)}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # services inherit it
    failed = False
    for name in options.parts or PARTS:
        run, often, quick = PARTS[name]
        started = time.monotonic()
        print(f"{name:10} ...", end="\r", flush=True)
        found = run(options.count or (quick if options.quick else often))
        faults = faults_of(name, found)
        failed = failed or bool(faults)
        figures = ", ".join(f"{what} {count:,}" for what, count in sorted(found.items()))
        print(
            f"{name:10} {'FAILED' if faults else 'held':7} {time.monotonic() - started:4.0f} s  {figures}", flush=True
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
