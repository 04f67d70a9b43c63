"""The results as plain text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.gpu.sessions import PROVIDERS
from benchmarks.gpu.speed import RATIOS

Entry = Mapping[str, Any]


def aligned(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table; its first columns, `words` of them, are aligned to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = [
        "  ".join(
            cell.ljust(width) if number < words else cell.rjust(width) for number, (cell, width) in enumerate(pairs)
        )
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join([title, texts[0], "-" * len(texts[0]), *texts[1:], ""])


def tables(results: Mapping[str, Any], not_run: Sequence[Mapping[str, str]]) -> str:
    """Everything that was measured."""
    parts = [machine(results["machine"], results["note"]), ceilings(results["ceilings"])]
    parts += [table(results[name]) for name, table in TABLES.items() if results.get(name)]
    parts.append(aligned("Not run", ["what", "why"], [[item["what"], item["why"]] for item in not_run], 2))
    return "\n".join(parts)


def machine(found: Entry, note: str) -> str:
    lines = [f"{name}: {value}" for name, value in found.items() if value is not None]
    return "\n".join([*lines, note, ""])


def ceilings(found: Mapping[str, Mapping[str, float | None]]) -> str:
    rows = []
    for device, each in found.items():
        for name, value in each.items():
            if value is not None:
                unit = "GB/s" if name in ("copy", "feed") else "TFLOP/s"
                rows.append([f"{device} {name}", f"{value / (1e9 if unit == 'GB/s' else 1e12):.3f}", unit])
    return aligned("Ceilings", ["ceiling", "value", "unit"], rows)


def parity(entries: Sequence[Entry]) -> str:
    header = ["network", "provider", "plan", "logits", "embedding", "means", "1/sigma", "filled"]
    rows = [
        [
            f"{entry['network']} {entry['precision']}",
            entry["provider"],
            f"{entry['plan']} {entry['note']}".strip(),
            *(f"{entry[name]:.1e}" for name in ("logits", "embedding", "means", "inverse_deviations")),
            "yes" if entry["statistics_filled"] else "NO",
        ]
        for entry in entries
    ]
    return aligned("Largest error against float64 (statistics: in sigma, and relative)", header, rows, 3)


def placement(entries: Sequence[Entry]) -> str:
    """Which nodes ran where; those that did not run on the provider that was asked for are named."""
    rows = []
    for entry in entries:
        asked, ran = PROVIDERS[entry["provider"]], entry["ran"]
        elsewhere = {kind: n for provider, kinds in ran.items() if provider != asked for kind, n in kinds.items()}
        named = ", ".join(f"{n} {kind}" for kind, n in elsewhere.items()) or "none"
        on_it = ran.get(asked, {})
        fused = sum(n for kind, n in on_it.items() if kind.startswith(("Skip", "EmbedLayer")))
        copies = sum(n for kind, n in on_it.items() if kind.startswith("Memcpy"))
        title, plan = f"{entry['network']} {entry['precision']}", f"{entry['plan']} {entry['note']}".strip()
        rows.append([title, plan, str(sum(on_it.values())), str(fused), str(copies), named])
    header = ["network", "plan", "nodes on provider", "fused norms", "memory copies", "elsewhere"]
    return aligned("Where the nodes ran", header, rows, 2)


def speed(entries: Sequence[Entry]) -> str:
    header = [
        "network",
        "device",
        "variant",
        "rows x tokens",
        "median ms",
        "p99 ms",
        "rounds",
        "rows/s",
        "tokens/s",
        "of roof",
    ]
    rows = [
        [
            f"{entry['network']} {entry['precision']}",
            entry["device"],
            name,
            f"{entry['rows']} x {entry['tokens']}",
            f"{1e3 * found['median_s']:.3f}",
            f"{1e3 * found['p99_s']:.3f}",
            str(found["rounds"]),
            f"{found['rows_per_s']:,.0f}",
            f"{found['tokens_per_s']:,.0f}",
            f"{100 * found['of_ceiling']:.1f} % {entry['bound']['binds']}",
        ]
        for entry in entries
        for name, found in entry["variants"].items()
    ]
    return aligned("Speed (of roof: shortest possible time over the median, and what binds)", header, rows, 3)


def ratios(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        found = entry["ratios"]
        cells = [f"{found[title]['median']:.3f}" if title in found else "" for title in RATIOS]
        name = f"{entry['network']} {entry['precision']}"
        rows.append([name, entry["device"], f"{entry['rows']} x {entry['tokens']}", *cells])
    return aligned(
        "Ratios of times in the same round (median)", ["network", "device", "rows x tokens", *RATIOS], rows, 2
    )


def training(entries: Sequence[Entry]) -> str:
    header = ["network", "device", "variant", "rows x tokens", "ms a step", "tokens/s", "TFLOP/s", "of matmul"]
    rows = [
        [
            f"{entry['network']} {entry['precision']}",
            entry["device"],
            name,
            f"{entry['rows']} x {entry['tokens']}",
            f"{1e3 * found['median_s']:.2f}",
            f"{found['tokens_per_s']:,.0f}",
            f"{found['flops_per_s'] / 1e12:.3f}",
            f"{100 * found['of_ceiling']:.1f} %" if found["of_ceiling"] else "",
        ]
        for entry in entries
        for name, found in entry["variants"].items()
    ]
    return aligned("Training", header, rows, 3)


def speed_and_ratios(entries: Sequence[Entry]) -> str:
    return f"{speed(entries)}\n{ratios(entries)}"


def parity_and_placement(entries: Sequence[Entry]) -> str:
    return f"{parity(entries)}\n{placement(entries)}"


TABLES = {"parity": parity_and_placement, "speed": speed_and_ratios, "training": training}
