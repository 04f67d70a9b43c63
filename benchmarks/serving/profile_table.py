"""A table of py-spy's raw profile: the functions in which the service spends its time.

    python -m benchmarks.serving.profile_table PROFILE

One line of the profile is a stack, outermost frame first, and how often it was sampled.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

SHOWN = 25
WAITING = "Condition.wait (threading.py)"  # py-spy takes a thread that waits so for a busy one


def main(path: Path) -> None:
    alone, within = count(path.read_text().splitlines())
    total = sum(alone.values())
    table = Table("function", "itself", "with what it calls", title=f"{path}, {total:,} samples", title_justify="left")
    for name, samples in alone.most_common(SHOWN):
        table.add_row(name, f"{samples / total:.1%}", f"{within[name] / total:.1%}")
    Console().print(table)


def count(lines: list[str]) -> tuple[Counter[str], Counter[str]]:
    """Samples in which a function ran itself, and in which it was anywhere on the stack."""
    alone, within = Counter[str](), Counter[str]()
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]  # lines of a function together
        if frames[-1] == WAITING:
            continue
        alone[frames[-1]] += int(samples)
        within.update(dict.fromkeys(frames, int(samples)))
    return alone, within


if __name__ == "__main__":
    main(Path(sys.argv[1]))
