"""What users of a task's model may ask: kinds of requests through its graph, and windows drawn from them."""

# R requests, D d_model

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.drift.held_out import HeldOut, artifact_of, file_of
from benchmarks.training.draws import SETS
from model.data import load_dataset
from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from runtime.drift.detector import Reference
from runtime.drift.numbers import Floats, request_features
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.statistics.traffic import Traffic

SEED = 5
FOREIGN = {"clinc150": "banking77", "near": "banking77", "banking77": "clinc150", "snips": "banking77"}
GREETINGS = ("hi there, ", "hello, ", "good morning! ", "hey, could you help me? ")


@dataclass(frozen=True, slots=True)
class Requests:
    """What the graph says of some requests.

    Attributes:
        features: [R, 2L + 5] (runtime/drift/numbers.py).
        classes: the predicted ones [R].
        embedding: [R, D].
        labels: the true classes [R]; negative ones are not the model's.
        identities: of their texts [R].
    """

    features: Floats
    classes: np.ndarray
    embedding: np.ndarray
    labels: np.ndarray
    identities: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: np.ndarray) -> "Requests":
        return Requests(*(getattr(self, name)[rows] for name in self.__slots__))

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(*(np.concatenate([getattr(each, n) for each in (self, other)]) for n in self.__slots__))

    @property
    def accuracy(self) -> float:
        return float((self.classes == self.labels).mean())


Draw = Callable[[np.random.Generator], Requests]


@dataclass(frozen=True, slots=True)
class TaskWorld:
    """A task's model and everything that is asked of it.

    Attributes:
        training: the rows that it learned; judges that need centroids take them from these.
        baseline: the rows that its baseline is of.
        kinds: `ordinary` requests, and others by name.
    """

    name: str
    reference: Reference
    training: Requests
    baseline: Requests
    kinds: dict[str, Requests]

    def traffic(self, asked: Requests) -> Traffic:
        return self.reference.sums(asked.features, asked.classes, asked.identities.tolist())


def load(task: HeldOut, work: Path, data: Path) -> TaskWorld:
    """The world of a task; its model is trained where there is none yet.

    Args:
        work: folder of the models.
        data: folder of the data sets.
    """
    artifact = read_artifact(artifact_of(task, work))
    encoder, inputs = Encoder(artifact), make_input_encoder(artifact)
    dataset = load_dataset(str(file_of(task, work)), work)
    reference = read_baseline(artifact).reference
    assert reference is not None

    def through(texts: Sequence[str], labels: Sequence[int] | np.ndarray) -> Requests:
        sequences = [item.tokens for item in inputs.encode([text.strip() or "?" for text in texts])]
        batches = [encoder.run(sequences[start : start + 64]) for start in range(0, len(sequences), 64)]
        features, classes = zip(*(request_features(batch) for batch in batches), strict=True)
        embedding = np.concatenate([batch.embedding for batch in batches])
        identities = np.array([each for batch in batches for each in batch.identities], dtype=np.uint64)
        return Requests(np.concatenate(features), np.concatenate(classes), embedding, np.array(labels), identities)

    held_out = dataset.held_out
    number = {label: place for place, label in enumerate(dataset.labels)}
    kinds = {}
    for name, (texts, labels) in texts_by_kind(task, data).items():
        number |= {label: -1 - place for place, label in enumerate(sorted(set(labels) - set(dataset.labels)))}
        kinds[name] = through(texts, [number[label] for label in labels])
    training = through([str(text) for text in dataset.train.inputs], dataset.train.labels)
    baseline = through([str(text) for text in held_out.inputs], held_out.labels)
    return TaskWorld(task.name, reference, training, baseline, kinds)


def texts_by_kind(task: HeldOut, data: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Texts and labels: ordinary ones, those of new classes, of another bot, and ordinary ones that are written
    otherwise."""
    texts, labels = ([row[part] for row in task.ordinary] for part in (0, 1))
    new = [text for text, _ in task.new]
    foreign = [text for text, _ in SETS[FOREIGN[task.name.split("-")[0]]](data)[1]]
    rng = random.Random(SEED)
    written = {
        "2 % of letters dropped": [typos(text, 0.02, rng) for text in texts],
        "6 % of letters dropped": [typos(text, 0.06, rng) for text in texts],
        "in capitals": [text.upper() for text in texts],
        "with greetings": [rng.choice(GREETINGS) + text for text in texts],
        "cut in half": [" ".join(text.split()[: (len(text.split()) + 1) // 2]) for text in texts],
        "another language": [" ".join(map(foreign_word, text.split())) for text in texts],
    }
    found = {"ordinary": (texts, labels), "new classes": (new, [label for _, label in task.new])}
    found["another bot's"] = (foreign, [""] * len(foreign))
    return found | {name: (changed, labels) for name, changed in written.items()}


def typos(text: str, share: float, rng: random.Random) -> str:
    return "".join(c for c in text if not (c.isalpha() and rng.random() < share))


def foreign_word(word: str) -> str:
    """A word of no language: each letter the next but two of the alphabet, each word always the same."""
    return "".join(chr((ord(c) - 97 + 3) % 26 + 97) if "a" <= c <= "z" else c for c in word.lower())


def some(requests: Requests, count: int) -> Draw:
    return lambda rng: requests[rng.integers(len(requests), size=count)]


def both(one: Draw, other: Draw) -> Draw:
    return lambda rng: one(rng) + other(rng)


def with_share(world: TaskWorld, kind: str, count: int, share: float) -> Draw:
    """`count` requests, a share of them of another kind than ordinary ones."""
    odd = round(count * share)
    return both(some(world.kinds["ordinary"], count - odd), some(world.kinds[kind], odd))


def repeated(requests: Requests, count: int, times: int) -> Draw:
    """`count` requests, each asked so many times."""
    return lambda rng: requests[np.repeat(rng.integers(len(requests), size=count // times), times)]


def zipf(requests: Requests, count: int, texts: int, exponent: float) -> Draw:
    """`count` requests for `texts` different ones, which are asked for as Zipf's law has it."""
    shares = np.arange(1, texts + 1) ** -exponent
    shares /= shares.sum()

    def draw(rng: np.random.Generator) -> Requests:
        held = rng.choice(len(requests), min(texts, len(requests)), replace=False)
        return requests[rng.choice(held, count, p=shares[: len(held)] / shares[: len(held)].sum())]

    return draw


def hot(requests: Requests, count: int, share: float) -> Draw:
    """`count` requests, a share of them the same one."""
    same = round(count * share)
    return lambda rng: requests[
        np.concatenate([np.full(same, rng.integers(len(requests))), rng.integers(len(requests), size=count - same)])
    ]


def drawn_from(draw: Draw, windows: int) -> list[Requests]:
    """The same windows at every call."""
    rng = np.random.default_rng(SEED)
    return [draw(rng) for _ in range(windows)]


def task_states(world: TaskWorld, draw: Draw, windows: int) -> np.ndarray:
    """The service's verdicts on windows [W]."""
    return np.array([world.reference.judge(world.traffic(window)).state for window in drawn_from(draw, windows)])
