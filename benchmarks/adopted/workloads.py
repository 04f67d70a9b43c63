"""The texts of every measurement: short questions as they are, and questions joined to texts of 8 to 512 tokens."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
BENCH = ROOT / ".bench"  # git-ignored: environments of the peers, logs and what is measured
WORK = BENCH / "adopted"
IN_BF16 = "2"  # version of the artifact in bf16, where the processor has it
SOURCE, PLAIN, WORKLOADS = WORK / "source", WORK / "plain.onnx", WORK / "workloads"

SHORT, MIX = "short", "8 to 512"
LENGTHS = {"128": (128, 128), "256": (256, 256), "512": (512, 512), MIX: (8, 512)}  # fewest and most tokens of a text

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop in which each text of a workload is asked once.

    Attributes:
        rows: texts in a request.
        texts: how many of the workload's, and in a quick run.
    """

    name: str
    workload: str
    clients: int
    rows: int
    texts: tuple[int, int]


ONE = Scenario("1 client", SHORT, 1, 1, (256, 48))
MANY = Scenario("32 clients", SHORT, 32, 1, (1024, 160))
ROWS = Scenario("rows of 32", SHORT, 4, 32, (1024, 160))
LONG = (
    Scenario("128 tokens", "128", 32, 1, (256, 48)),
    Scenario("256 tokens", "256", 32, 1, (128, 40)),
    Scenario("512 tokens", "512", 32, 1, (96, 32)),
    Scenario("8 to 512 tokens", MIX, 32, 1, (128, 40)),
)
SCENARIOS = (ONE, MANY, ROWS, *LONG)


def make_workload(name: str, questions: Sequence[str], count_tokens: CountTokens) -> list[str]:
    """The texts of a workload, the same at every call: as many as the scenario that takes most of them."""
    most = max(scenario.texts[0] for scenario in SCENARIOS if scenario.workload == name)
    rng = random.Random(name)
    shuffled = list(questions)
    rng.shuffle(shuffled)
    if name == SHORT:
        return shuffled[:most]
    joined = join_questions(shuffled, [rng.randint(*LENGTHS[name]) for _ in range(most)], count_tokens)
    return list(joined)


def join_questions(questions: Sequence[str], lengths: Sequence[int], count_tokens: CountTokens) -> Iterator[str]:
    """Texts of at most so many tokens, and few less: words of the questions, one question after the other."""
    words = endless_words(questions)
    for length in lengths:
        text = list(islice(words, length))  # a word has a token at least
        while len(text) > 1 and (excess := count_tokens(" ".join(text)) - length) > 0:
            del text[-max(1, min(excess // 2, len(text) - 1)) :]
        yield " ".join(text)


def endless_words(questions: Sequence[str]) -> Iterator[str]:
    while True:
        for question in questions:
            yield from question.split()


def read_lines(path: Path) -> list[str]:
    """The texts of a file with one in a line.

    Raises:
        SystemExit: there are none.
    """
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise SystemExit(f"{path} has no texts, expected one in a line.")
    return lines


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workload with the answers that are expected.

    Attributes:
        tokens: of every text, special ones included [n].
        embeddings: [n, D], computed without a server.
    """

    texts: list[str]
    tokens: NDArray[np.int64]
    embeddings: NDArray[np.float32]

    def write(self, name: str) -> None:
        WORKLOADS.mkdir(parents=True, exist_ok=True)
        (WORKLOADS / f"{name}.json").write_text(json.dumps({"texts": self.texts, "tokens": self.tokens.tolist()}))
        np.save(WORKLOADS / f"{name}.npy", self.embeddings)

    def first(self, count: int) -> "Prepared":
        return Prepared(self.texts[:count], self.tokens[:count], self.embeddings[:count])


def read_prepared(name: str) -> Prepared:
    found: dict[str, Any] = json.loads((WORKLOADS / f"{name}.json").read_text())
    return Prepared(found["texts"], np.array(found["tokens"]), np.load(WORKLOADS / f"{name}.npy"))


def is_prepared(name: str) -> bool:
    """Whether the model can read texts of this workload."""
    return (WORKLOADS / f"{name}.npy").exists()
