"""How often windows of traffic are called drift or mix shift, through the service's own code, beside outside judges.

    python -m benchmarks.drift DATA [ARTIFACT ...]      DATA: folder with clinc150/ and banking77/

Prints a table in Markdown for each artifact. With --write it fills docs/drift.md's tables and draws its curves. The
first call installs Evidently into a folder of its own, .bench/evidently.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.document import markdown, write_tables
from benchmarks.drift.curves import draw_out_of_scope, draw_typing_errors
from benchmarks.drift.judges import Judge, evidently_judges, outside_judges
from benchmarks.drift.traffic import Requests, Row, World, draw_windows, load, state_shares, table_rows
from runtime.drift.numbers import Floats
from service.settings import Settings

WINDOWS, EVIDENTLY_WINDOWS = 1000, 200  # a row; Evidently takes 50 ms a window
DOCUMENT, IMAGES = Path("docs/drift.md"), Path("docs/img")
NAMES = {"layer_norm": "LayerNorm", "rms_norm": "RMSNorm", "batch_norm": "BatchNorm", "none": "no norm"}

Rates = dict[str, dict[str, float]]  # by row of the table, then by its column


def main() -> None:
    options = parse()
    worlds = [load(path, options.data) for path in options.artifacts]
    tables, measured = {}, {}
    for number, world in enumerate(worlds):
        rows = table_rows(world)
        measured[title(world)] = measure(world, rows, options.evidently and number == 0)  # it takes minutes
        tables[world.name] = full_table(rows, measured[title(world)])
        print(f"\n{world.manifest.name}: {title(world)}\n\n{tables[world.name]}", flush=True)
    if len(worlds) > 1:
        tables["encoders"] = comparison(measured)
        print(f"\n{tables['encoders']}")
    if options.write:
        write_tables(DOCUMENT, tables)
        draw_out_of_scope(worlds[0], IMAGES / "drift.png")
        draw_typing_errors({title(world): world for world in worlds}, IMAGES / "typing-errors.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description="Measures docs/drift.md's tables.")
    parser.add_argument("data", type=Path, help="folder with clinc150/ and banking77/")
    parser.add_argument("artifacts", type=Path, nargs="*", default=[Settings().model], help="the embedded model first")
    parser.add_argument("--write", action="store_true", help="fill the tables and draw the curves of docs/drift.md")
    parser.add_argument(
        "--no-evidently", dest="evidently", action="store_false", help="leave that judge of the first artifact out"
    )
    return parser.parse_args()


def title(world: World) -> str:
    if "adopted_from" in world.manifest.training:
        return str(world.manifest.training["adopted_from"])
    layer = world.manifest.layers[0]
    return f"{NAMES[layer.kind]}, {layer.placement}"


def measure(world: World, rows: dict[str, Row], with_evidently: bool) -> Rates:
    """Share of windows that the service calls drift and mix shift, and that each outside judge alarms at."""
    windows = {name: draw_windows(row.draws, WINDOWS) for name, row in rows.items()}
    rates: Rates = {name: {} for name in rows}
    for name, drawn in windows.items():
        shares = state_shares(world.reference, drawn)
        rates[name] |= {"drift": shares["drift"], "mix shift": shares["mix_shift"]}
    for judge_name, (judge, count) in all_judges(world, with_evidently).items():
        for name, share in alarm_shares(judge, windows, world.validation, count).items():
            rates[name][judge_name] = share
    return rates


def all_judges(world: World, with_evidently: bool) -> dict[str, tuple[Judge, int]]:
    """Every outside judge by its column in the table, and how many windows a row it is given."""
    columns = world.validation.shape[1]
    judges = {name: (judge, WINDOWS) for name, judge in outside_judges(len(world.manifest.layers), columns).items()}
    if with_evidently:
        judges |= {name: (judge, EVIDENTLY_WINDOWS) for name, judge in evidently_judges(columns).items()}
    return judges


def alarm_shares(judge: Judge, windows: dict[str, list[Requests]], validation: Floats, count: int) -> dict[str, float]:
    """Share of alarms in each row, over `count` of its windows, as many from every draw."""
    picked = [w.features for drawn in windows.values() for w in drawn[:: len(drawn) // count]]
    alarms = judge(picked, validation).reshape(len(windows), -1)
    return dict(zip(windows, np.mean(alarms, axis=1).tolist(), strict=True))


def full_table(rows: dict[str, Row], rates: Rates) -> str:
    """Every judge's rates on one encoder."""
    judges = list(next(iter(rates.values())))
    lines = [[name, *(f"{rate:.3f}" for rate in rates[name].values()), row.aim] for name, row in rows.items()]
    return markdown(["window", *judges, "aim"], lines)


def comparison(measured: dict[str, Rates]) -> str:
    """The service's rates on every encoder: drift, and mix shift where it is meant."""

    def cell(rates: Rates, name: str) -> str:
        drift, mix = rates[name]["drift"], rates[name]["mix shift"]
        return f"{drift:.3f} / {mix:.3f}" if "one domain" in name else f"{drift:.3f}"

    names = next(iter(measured.values()))
    return markdown(
        ["window", *measured], [[name, *(cell(rates, name) for rates in measured.values())] for name in names]
    )


if __name__ == "__main__":
    main()
