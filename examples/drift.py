"""Watch a verdict change: a small model is trained, exported and served, asked ordinary things, then odd ones.

    python examples/drift.py                    handwritten digits, no download; half a minute
    python examples/drift.py --data DIRECTORY   questions of DIRECTORY/clinc150/data_full.json; a minute

Digits are turned by a quarter to make them odd; from questions, one letter in ten is dropped. The model has learned
from neither part of the traffic. Every step is a command or a request that can be done by hand; commands are printed.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")  # draws to a file

from matplotlib import pyplot
from matplotlib.axes import Axes

from model.data import load_dataset
from runtime.errors import AddNormError

SMALL = ("--d-model", "32", "--num-heads", "2", "--d-ff", "64")
RECIPES = {
    "digits": (*SMALL, "--epochs", "12"),
    "clinc150": ("--d-model", "64", "--num-heads", "2", "--d-ff", "128", "--epochs", "6", "--variants", "2"),
}
COLOURS = {"ok": "tab:green", "mix_shift": "gold", "drift": "tab:red", "insufficient_data": "lightgrey"}
BATCH, MOST = 10, 150  # inputs in a request, and of each kind of traffic


@dataclass(frozen=True, slots=True)
class Seen:
    """What the service said after one more request.

    Attributes:
        kind: of the request, ordinary or odd.
        requests: inputs so far.
        scores: of every layer, in units of its threshold; empty where there is too little to judge by.
    """

    kind: str
    requests: int
    verdict: dict[str, Any]
    scores: dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of data sets; trains on its clinc150 in the place of digits")
    parser.add_argument("--out", type=Path, default=Path("runs/drift-example"), help="where run, model and picture go")
    parser.add_argument("--epochs", help="passes over the training data")
    options = parser.parse_args()
    name = "digits" if options.data is None else "clinc150"
    data = options.data or Path(tempfile.gettempdir())
    try:
        traffic = make_traffic(name, data)
        model = make_model(name, data, options.out, options.epochs)
    except (AddNormError, subprocess.CalledProcessError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    with served(model) as url:
        seen = watch(url, traffic)
    show(seen)
    draw(seen, options.out / "drift.png")
    print(f"The picture is {options.out / 'drift.png'}.")
    return 0


def make_traffic(name: str, data: Path) -> list[tuple[str, list[Any]]]:
    """Requests by kind: ordinary ones from one half of the test split, odd ones from the other, altered."""
    test, rng = load_dataset(name, data).test, random.Random(0)
    inputs = [test.inputs[row] for row in rng.sample(range(len(test)), min(len(test), 2 * MOST))]
    half = len(inputs) // 2
    odd = [drop_letters(each, rng) if isinstance(each, str) else np.rot90(each) for each in inputs[half:]]
    rows = {"ordinary": inputs[:half], "odd": odd}
    plain = {kind: [row if isinstance(row, str) else row.tolist() for row in part] for kind, part in rows.items()}
    return [(kind, part[at : at + BATCH]) for kind, part in plain.items() for at in range(0, half, BATCH)]


def drop_letters(text: str, rng: random.Random, share: float = 0.1) -> str:
    return "".join(letter for letter in text if not letter.isalpha() or rng.random() >= share) or text


def make_model(name: str, data: Path, out: Path, epochs: str | None) -> Path:
    """Trains and exports; what is there already is not made again."""
    model = out / "models" / name / "1"
    if not model.exists():
        more = () if epochs is None else ("--epochs", epochs)
        addnorm("train", name, "--data", str(data), "--out", str(out / name), *RECIPES[name], *more)
        export = ("--name", name, "--version", "1", "--models", str(out / "models"), "--data", str(data))
        addnorm("export", str(out / name), *export)
    return model


def addnorm(*arguments: str) -> None:
    print("$ addnorm", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "addnorm", *arguments], check=True)


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of a service of `model`, while it runs."""
    arguments = ("serve", "--model", str(model), "--port", "0", "--workers", "1", "--device", "cpu")
    print("$ addnorm", *arguments, flush=True)
    command = [sys.executable, "-m", "addnorm", *arguments, "--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            urls = (re.search(r"http://[\d.]+:\d+", line) for line in process.stdout)
            yield next(found[0] for found in urls if found)
        finally:
            process.terminate()


def watch(url: str, traffic: list[tuple[str, list[Any]]]) -> list[Seen]:
    """Sends the requests one by one, and asks for the statistics after each."""
    seen = []
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for kind, inputs in traffic:
            client.post("/predict", json={"inputs": inputs}).raise_for_status()
            stats = client.get("/norm-stats").raise_for_status().json()
            places = [place for place in (stats["input"], *stats["layers"], stats["output"]) if place]
            drifts = {place["name"]: place["drift"] for place in places}
            judged = {name: each for name, each in drifts.items() if each.get("threshold")}  # 0 where nothing varies
            scores = {name: each["score"] / each["threshold"] for name, each in judged.items()}
            seen.append(Seen(kind, stats["requests"], stats["verdict"], scores))
    return seen


def show(seen: list[Seen]) -> None:
    table = Table("inputs", "the last ones", "verdict", "first at", "score / limit", box=None)
    for each in seen:
        most = f"{max(each.scores.values()):.1f}" if each.scores else ""
        state, first = each.verdict["state"], each.verdict["first_layer"] or ""
        table.add_row(str(each.requests), each.kind, state.replace("_", " "), first, most)
    console = Console()
    console.print(table)
    console.print(seen[-1].verdict["sentence"])


def draw(seen: list[Seen], path: Path) -> None:
    """Every layer's score over the traffic, above a strip with the verdicts."""
    figure, (strip, axes) = pyplot.subplots(2, figsize=(8, 4.5), sharex=True, height_ratios=[1, 12], layout="tight")
    draw_verdicts(strip, seen)
    judged = [each for each in seen if each.scores]
    for name in judged[0].scores if judged else ():
        axes.plot([each.requests for each in judged], [each.scores[name] for each in judged], label=name)
    axes.axhline(1, color="black", linestyle="--", linewidth=1)
    axes.axvspan(max(each.requests for each in seen if each.kind == "ordinary"), seen[-1].requests, alpha=0.07)
    axes.set(yscale="log", xlabel="inputs so far (shaded: odd ones)", ylabel="drift score / limit")
    axes.legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_verdicts(strip: Axes, seen: list[Seen]) -> None:
    start = 0
    for each in seen:
        state = each.verdict["state"]
        strip.axvspan(start, each.requests, color=COLOURS[state])
        start = each.requests
    states = dict.fromkeys(each.verdict["state"] for each in seen)
    for state in states:
        strip.plot([], [], color=COLOURS[state], linewidth=6, label=state.replace("_", " "))
    strip.set(yticks=[], xlim=(0, start))
    strip.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)


if __name__ == "__main__":
    sys.exit(main())
