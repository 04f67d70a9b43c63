"""Small files as newcomers bring them: rows drawn from public data sets, classes as unequal as 1 to 20."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.data import Dataset, Split
from model.data.dataset import split_rows

Rows = list[tuple[str, str]]  # text and label
LEAST = 2  # rows of a class
UNEQUAL = 20.0  # rows of the most frequent class to those of the rarest, at most


def clinc150(data: Path) -> tuple[Rows, Rows]:
    content = json.loads((data / "clinc150" / "data_full.json").read_text())
    return [tuple(row) for row in content["train"]], [tuple(row) for row in content["test"]]


def banking77(data: Path) -> tuple[Rows, Rows]:
    def read(name: str) -> Rows:
        with (data / "banking77" / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]

    return read("train.csv"), read("test.csv")


def snips(data: Path) -> tuple[Rows, Rows]:
    def read(pattern: str) -> Iterator[tuple[str, str]]:
        for path in sorted((data / "snips").glob(pattern)):
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            ((label, texts),) = json.loads(content.decode("utf-8", errors="replace")).items()
            yield from (("".join(part["text"] for part in text["data"]).strip(), label) for text in texts)

    return list(read("train_*")), list(read("validate_*"))


SETS: dict[str, Callable[[Path], tuple[Rows, Rows]]] = {"banking77": banking77, "clinc150": clinc150, "snips": snips}


def draw(rows: Rows, count: int, seed: int) -> Rows:
    """So many rows; classes have weights from 1 to UNEQUAL, evenly on a logarithmic scale."""
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for place, (_, label) in enumerate(rows):
        by_label.setdefault(label, []).append(place)
    for places in by_label.values():
        rng.shuffle(places)
    weights = UNEQUAL ** rng.random(len(by_label))
    chosen = [place for places in by_label.values() for place in places[:LEAST]]
    rest = [
        (place, weight) for places, weight in zip(by_label.values(), weights, strict=True) for place in places[LEAST:]
    ]
    chance = np.array([weight for _, weight in rest])
    more = rng.choice(len(rest), max(0, min(count - len(chosen), len(rest))), replace=False, p=chance / chance.sum())
    return [rows[place] for place in sorted(chosen + [rest[number][0] for number in more])]


def small_file(name: str, data: Path, count: int, seed: int) -> Dataset:
    """What a user's file of so many rows becomes, 80 % of them for training; judged on the data set's own test rows."""
    train, test = SETS[name](data)
    drawn = train if count >= len(train) else draw(train, count, seed)
    dataset = split_rows(f"{name}-{count}-{seed}", "drawn", [text for text, _ in drawn], [label for _, label in drawn])
    known = [(text, label) for text, label in test if label in dataset.labels]
    labels = np.array([dataset.labels.index(label) for _, label in known])
    return replace(dataset, test=Split([text for text, _ in known], labels))


def whole(name: str, data: Path) -> Dataset:
    """All rows: nine tenths of each class for training, the others for validation; clinc150's own validation rows."""
    train, test = SETS[name](data)
    labels = sorted({label for _, label in train})
    if name == "clinc150":
        content = json.loads((data / "clinc150" / "data_full.json").read_text())
        validation = [tuple(row) for row in content["val"]]
    else:
        rng = np.random.default_rng(0)
        by_label: dict[str, list[int]] = {}
        for place, (_, label) in enumerate(train):
            by_label.setdefault(label, []).append(place)
        held = {
            p for places in by_label.values() for p in rng.permutation(places)[: max(1, len(places) // 10)].tolist()
        }
        validation = [train[place] for place in sorted(held)]
        train = [row for place, row in enumerate(train) if place not in held]

    def split(rows: Rows) -> Split:
        return Split([text for text, _ in rows], np.array([labels.index(label) for _, label in rows]))

    return Dataset(name, "public", labels, split(train), split(validation), split(test))
