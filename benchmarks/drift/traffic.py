"""Windows of real traffic as the service sees it: what each row of docs/drift.md's tables draws, and what it aims at.

Windows are drawn from clinc150's test split, its out-of-scope queries and banking77; nothing is fitted on them.
"""

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from runtime.drift.detector import Reference
from runtime.drift.numbers import Floats, request_features
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import Manifest

SEED, TYPOS = 5, 0.06  # share of letters dropped


@dataclass(frozen=True, slots=True)
class Requests:
    """What the graph says of requests [R, 2L + 5], and their predicted classes [R]."""

    features: Floats
    classes: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Requests":
        return Requests(self.features[rows], self.classes[rows])

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(np.concatenate([self.features, other.features]), np.concatenate([self.classes, other.classes]))


Draw = Callable[[np.random.Generator], Requests]


@dataclass(frozen=True, slots=True)
class World:
    """One artifact and all traffic through its graph.

    Attributes:
        requests: by kind: validation, test, out-of-scope, typos, banking77.
        domains: of each test query.
    """

    manifest: Manifest
    reference: Reference
    requests: dict[str, Requests]
    domains: np.ndarray

    @property
    def validation(self) -> Floats:
        return self.requests["validation"].features

    @property
    def name(self) -> str:
        """Kind of norm and placement, or an adopted encoder's own name: so the document's blocks are named."""
        if "adopted_from" in self.manifest.training:
            return self.manifest.name
        layer = self.manifest.layers[0]
        return f"{layer.kind}-{layer.placement}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: how its windows are drawn (several draws are averaged), and what is aimed at."""

    draws: list[Draw]
    aim: str = ""


def load(path: Path, data: Path) -> World:
    """The artifact in `path` and every kind of traffic through its graph.

    Args:
        data: folder with clinc150/ and banking77/.
    """
    artifact = read_artifact(path)
    reference = read_baseline(artifact).reference
    assert reference is not None, f"{path} has no reference"
    encoder, inputs = Encoder(artifact), make_input_encoder(artifact)
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text())
    requests = {}
    for kind, lines in texts(clinc, data).items():
        sequences = [item.tokens for item in inputs.encode([line if line.strip() else "?" for line in lines])]
        parts = [request_features(encoder.run(sequences[i : i + 128])) for i in range(0, len(sequences), 128)]
        features, classes = (np.concatenate(part) for part in zip(*parts, strict=True))
        requests[kind] = Requests(features, classes)
    domains = json.loads((data / "clinc150" / "domains.json").read_text())
    domain_of = {intent: number for number, intents in enumerate(domains.values()) for intent in intents}
    return World(artifact.manifest, reference, requests, np.array([domain_of[intent] for _, intent in clinc["test"]]))


def texts(clinc: dict[str, list[list[str]]], data: Path) -> dict[str, list[str]]:
    """Every kind of traffic."""
    splits = {"validation": "val", "test": "test", "out-of-scope": "oos_test"}
    kinds = {name: [text for text, _ in clinc[split]] for name, split in splits.items()}
    rng = random.Random(SEED)
    kinds["typos"] = ["".join(c for c in text if not (c.isalpha() and rng.random() < TYPOS)) for text in kinds["test"]]
    with (data / "banking77" / "test.csv").open(newline="") as file:
        kinds["banking77"] = [row["text"] for row in csv.DictReader(file)]
    return kinds


def sample(requests: Requests, count: int) -> Draw:
    return lambda rng: requests[rng.integers(len(requests.classes), size=count)]


def both(one: Draw, other: Draw) -> Draw:
    return lambda rng: one(rng) + other(rng)


def mixed(world: World, count: int, out: int) -> Draw:
    """`count` requests, `out` of them out-of-scope."""
    return both(sample(world.requests["test"], count - out), sample(world.requests["out-of-scope"], out))


def table_rows(world: World) -> dict[str, Row]:
    test, typos, banking = (world.requests[kind] for kind in ("test", "typos", "banking77"))
    by_domain = [test[world.domains == number] for number in range(world.domains.max() + 1)]

    def one_domain(count: int) -> list[Draw]:
        return [sample(domain, count) for domain in by_domain]

    return {
        "50 in-scope": Row([sample(test, 50)], "≤ .02"),
        "200 in-scope": Row([sample(test, 200)], "≤ .02"),
        "1,000 in-scope": Row([sample(test, 1000)]),
        "50, 20 % out-of-scope": Row([mixed(world, 50, 10)], "≥ .80"),
        "200, 10 % out-of-scope": Row([mixed(world, 200, 20)], "≥ .80"),
        "50, 6 % of letters dropped": Row([sample(typos, 50)], "≥ .99"),
        "50 of banking77": Row([sample(banking, 50)], "≥ .99"),
        "50 of one domain": Row(one_domain(50), "drift ≤ .05, mix shift ≥ .90"),
        "200 of one domain": Row(one_domain(200), "drift ≤ .10"),
        "1,000 of one domain": Row(one_domain(1000)),
    }


def draw_windows(draws: list[Draw], count: int) -> list[Requests]:
    """`count` windows, evenly from every draw; the same ones at every call."""
    rng = np.random.default_rng(SEED)
    return [draw(rng) for draw in draws for _ in range(count // len(draws))]


def state_shares(reference: Reference, windows: Sequence[Requests]) -> dict[str, float]:
    """Share of windows that the service gives each state; 0 for a state that it gives none."""
    traffics = (reference.sums(window.features, window.classes) for window in windows)
    states = Counter(reference.judge(traffic).state for traffic in traffics)
    return {state: states[state] / len(windows) for state in ("ok", "mix_shift", "drift", "insufficient_data")}
