"""Draws docs/img/norm-stats.png: what each norm of the embedded model sees on three kinds of traffic, asked over HTTP.

python -m benchmarks.pictures.norms DATA      DATA: folder with clinc150/ and banking77/
"""

import csv
import random
import sys
from pathlib import Path

import httpx
from fastapi.testclient import TestClient
from matplotlib.figure import Figure

from model.data import load_dataset
from service.page.events import make_feed
from service.process import server_config
from service.repository.control import load_all
from service.schemas.norm_stats import NormStatsResponse
from service.settings import Settings
from service.telemetry.aggregator import Aggregator

COLORS = {"validation": "0.55", "test questions": "tab:blue", "typing errors": "tab:orange", "another topic": "tab:red"}


def main(data: Path) -> None:
    test = [str(text) for text in load_dataset("clinc150", data).test.inputs[:2000]]
    with (data / "banking77" / "test.csv").open(newline="") as file:
        banking = [row["text"] for row in csv.DictReader(file)][:2000]
    rng = random.Random(0)
    typos = ["".join(letter for letter in text if rng.random() > 0.06) for text in test]
    traffic = {"test questions": test, "typing errors": typos, "another topic": banking}
    answers = {name: ask(texts) for name, texts in traffic.items()}
    draw(answers, Path("docs/img/norm-stats.png"))


def ask(texts: list[str]) -> NormStatsResponse:
    """Sends the texts to a fresh service and returns its statistics."""
    settings = Settings(workers=1)
    control, sink = load_all(settings), Aggregator().open()
    config = server_config(settings, control.models, control, sink, make_feed(control.models, sink))
    with TestClient(config.app) as client:
        for start in range(0, len(texts), 100):
            response: httpx.Response = client.post("/predict", json={"inputs": texts[start : start + 100]})
            response.raise_for_status()
        return NormStatsResponse.model_validate_json(client.get("/norm-stats").content)


def draw(answers: dict[str, NormStatsResponse], path: Path) -> None:
    """One row per layer; the median token's variance and its range from the 1st to the 99th percentile.

    Variances are divided by the validation data's median at that layer.
    """
    layers = next(iter(answers.values())).layers
    figure = Figure(figsize=(9, 0.9 + 0.8 * len(layers)), layout="constrained")
    axes = figure.subplots()
    for row, layer in enumerate(layers):
        seen = {"validation": layer.baseline} | {name: answer.layers[row].live for name, answer in answers.items()}
        for offset, (name, state) in enumerate(seen.items()):
            low, middle, high = (
                getattr(state.variance, q) / layer.baseline.variance.p50 for q in ("p01", "p50", "p99")
            )
            y = row + 0.17 * (offset - 1.5)
            axes.plot([low, high], [y, y], color=COLORS[name], linewidth=3, alpha=0.5)
            axes.plot(middle, y, "o", color=COLORS[name], label=name if row == 0 else None)
    axes.axvline(1, color="0.55", linewidth=1)
    axes.set_xlabel("variance of a token where it enters the norm / median of the validation data")
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=9, loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
