"""How often windows of traffic are called drift or mix shift, through the service's own code, beside outside judges.

    python -m benchmarks.drift DATA [ARTIFACT ...]      DATA: folder with clinc150/ and banking77/

Windows are drawn from clinc150's test split, its out-of-scope queries and banking77; nothing is fitted on them. Prints
a table in Markdown for each artifact, and draws docs/img/drift.png for the first.
"""

import csv
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track
from scipy.stats import ks_2samp

from runtime.artifact import read_artifact
from runtime.baseline import read_baseline
from runtime.drift import Floats, Reference, request_features
from runtime.encoder import Encoder
from runtime.inputs import make_input_encoder
from runtime.statistics import Traffic
from service.settings import Settings

WINDOWS, ALARM, SEED = 1000, 0.01, 5
TOP = 2  # the output's columns are the last two


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests as the service sees them: clipped numbers [R, K], predicted classes [R]."""

    features: Floats
    classes: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Requests":
        return Requests(self.features[rows], self.classes[rows])

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(np.concatenate([self.features, other.features]), np.concatenate([self.classes, other.classes]))


Draw = Callable[[np.random.Generator], Requests]


def main(data: Path, paths: list[Path]) -> None:
    for number, path in enumerate(paths):
        reference, traffic, domains = load(path, data)
        rows = {name: rates(reference, traffic["validation"], draws) for name, draws in cases(traffic, domains).items()}
        manifest = read_artifact(path).manifest
        layer = manifest.layers[0]
        print(f"\n{manifest.name}: {layer.kind}, {layer.placement}\n")
        print("| window | drift | mix shift | KS, output | KS, norms |\n|---|---|---|---|---|")
        for name, values in rows.items():
            print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
        if number == 0:
            draw_curves(reference, traffic, Path("docs/img/drift.png"))


def load(path: Path, data: Path) -> tuple[Reference, dict[str, Requests], np.ndarray]:
    """The artifact's reference, every kind of traffic through its graph, and the domain of each test query."""
    artifact = read_artifact(path)
    reference = read_baseline(artifact).reference
    assert reference is not None, f"{path} has no reference"
    encoder, inputs = Encoder(artifact), make_input_encoder(artifact)
    raw = json.loads((data / "clinc150" / "data_full.json").read_text())
    texts = {"validation": "val", "test": "test", "out-of-scope": "oos_test"}
    kinds = {name: [text for text, _ in raw[key]] for name, key in texts.items()}
    rng = random.Random(SEED)
    kinds["typos"] = ["".join(c for c in text if not (c.isalpha() and rng.random() < 0.06)) for text in kinds["test"]]
    with (data / "banking77" / "test.csv").open(newline="") as file:
        kinds["banking77"] = [row["text"] for row in csv.DictReader(file)]
    traffic = {}
    for name, lines in kinds.items():
        sequences = [item.tokens for item in inputs.encode([line if line.strip() else "?" for line in lines])]
        parts = [request_features(encoder.run(sequences[i : i + 128])) for i in range(0, len(sequences), 128)]
        features, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
        traffic[name] = Requests(np.clip(features, *reference.bounds), classes)
    domains = json.loads((data / "clinc150" / "domains.json").read_text())
    domain_of = {intent: number for number, intents in enumerate(domains.values()) for intent in intents}
    return reference, traffic, np.array([domain_of[intent] for _, intent in raw["test"]])


def sample(requests: Requests, count: int) -> Draw:
    return lambda rng: requests[rng.integers(len(requests.classes), size=count)]


def both(one: Draw, other: Draw) -> Draw:
    return lambda rng: one(rng) + other(rng)


def cases(traffic: dict[str, Requests], domains: np.ndarray) -> dict[str, list[Draw]]:
    """What is drawn for each row of the table; several draws are averaged."""
    test, out = traffic["test"], traffic["out-of-scope"]
    by_domain = [test[domains == number] for number in range(domains.max() + 1)]
    return {
        "50 in-scope": [sample(test, 50)],
        "200 in-scope": [sample(test, 200)],
        "1,000 in-scope": [sample(test, 1000)],
        "50, 20 % out-of-scope": [both(sample(test, 40), sample(out, 10))],
        "200, 10 % out-of-scope": [both(sample(test, 180), sample(out, 20))],
        "50, 6 % of letters dropped": [sample(traffic["typos"], 50)],
        "50 of banking77": [sample(traffic["banking77"], 50)],
        "50 of one domain": [sample(domain, 50) for domain in by_domain],
        "200 of one domain": [sample(domain, 200) for domain in by_domain],
        "1,000 of one domain": [sample(domain, 1000) for domain in by_domain],
    }


def rates(reference: Reference, validation: Requests, draws: list[Draw]) -> tuple[float, float, float, float]:
    """Share of windows called drift, called mix shift, and alarmed by KS tests on the output and on the norms."""
    rng, windows = np.random.default_rng(SEED), WINDOWS // len(draws)
    hits = []
    for draw in draws:
        for _ in track(range(windows), transient=True):
            window = draw(rng)
            traffic = Traffic.of(window.features, window.classes, len(reference.counts))
            state = reference.judge(traffic).state
            output, norms = (
                ks_alarm(window, validation, slice(-TOP, None)),
                ks_alarm(window, validation, slice(0, -TOP)),
            )
            hits.append((state == "drift", state == "mix_shift", output, norms))
    drift, mix, output_rate, norm_rate = np.mean(hits, axis=0).tolist()
    return drift, mix, output_rate, norm_rate


def ks_alarm(window: Requests, validation: Requests, columns: slice) -> bool:
    """Two-sample Kolmogorov-Smirnov tests of each column against validation, Bonferroni over columns."""
    mine, theirs = window.features[:, columns].T, validation.features[:, columns].T
    return any(ks_2samp(x, y).pvalue < ALARM / len(mine) for x, y in zip(mine, theirs, strict=True))


def draw_curves(reference: Reference, traffic: dict[str, Requests], path: Path) -> None:
    """Drift rate against the share of out-of-scope requests, for three window sizes."""
    shares = (0, 2, 5, 10, 15, 20, 30)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for size in (50, 200, 1000):
        found = []
        for share in shares:
            out = round(size * share / 100)
            draw = both(sample(traffic["test"], size - out), sample(traffic["out-of-scope"], out))
            found.append(drift_rate(reference, draw))
        axes.plot(shares, found, marker="o", label=f"{size} requests")
    axes.axhline(ALARM, color="0.6", linewidth=1)
    axes.set(xlabel="share of out-of-scope requests, %", ylabel="windows called drift")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def drift_rate(reference: Reference, draw: Draw) -> float:
    rng = np.random.default_rng(SEED)
    windows = (draw(rng) for _ in range(WINDOWS))
    traffics = (Traffic.of(window.features, window.classes, len(reference.counts)) for window in windows)
    return float(np.mean([reference.judge(traffic).state == "drift" for traffic in traffics]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]] or [Settings().model])
