"""Where the time of a request goes in one process: the graph, and everything else, part by part.

A request has one text, and is alone in its batch: nothing is shared with others. What a part takes in a round is the
average of a few texts, and the median over all rounds is reported. Every round measures every size once, so that a busy
moment of the machine hits all alike, and times are CPU times. HTTP and the event loop are left out: they do not depend
on any of these sizes.

All parts but recording run as they do in a service, after the graph: it has pushed their code and data out of the
processor's caches, the more so the larger it is. So even what does the same work whatever the size takes longer beside
a large graph.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from benchmarks.curves.curve import Curve, Points, Tell, growth_rows, number
from benchmarks.curves.networks import Shape, make_artifact, text_of
from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.statistics.buffer import TOKENS
from runtime.statistics.recorder import NormRecorder
from service.inference.writing import PredictionWriter
from service.schemas.inference import PredictRequest

cpu = time.thread_time  # seconds of this thread: what others on the machine take meanwhile is not in it
TEXTS, LEAST_ROUNDS, SHORT = 4, 4, 16  # texts of a round, after one that warms up; rounds likewise; tokens of a text
ALL = 1 << 30  # labels in an answer: as many as there are
LENGTHS = (8, 16, 32, 64, 128, 256, 512)
LAYERS, WIDTHS, NARROW = (1, 2, 4, 6, 12), (128, 384, 768), 128
CLASSES, LABELS = (2, 10, 150, 1_000, 10_000), {"1 label": 1, "5 labels": 5, "all labels": ALL}


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds a text.

    Attributes:
        graph: running it.
        tokenize: reading the request's JSON, and its text's tokens.
        pack: laying tokens out as the graph takes them.
        evidence: the best class, its score and entropy, and all else that is made of the graph's outputs.
        record: adding up what the norms saw: copied at once, folded when there is enough.
        drift: what drift is judged by, of the same.
        write: the answer as JSON.
    """

    graph: float
    tokenize: float
    pack: float
    evidence: float
    record: float
    drift: float
    write: float

    @property
    def outside(self) -> float:
        """Everything but the graph."""
        return sum(getattr(self, name) for name in NAMES) - self.graph


NAMES = tuple(field.name for field in fields(Parts))
SHOWN = (*NAMES, "outside")


def middle(rounds: Sequence[Parts]) -> Parts:
    """The median of every part."""
    return Parts(*(median(getattr(each, name) for each in rounds) for name in NAMES))


class Timed:
    """A function that adds up how long it runs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any) -> Any:
        started = cpu()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += cpu() - started

    def take(self) -> float:
        """Seconds since they were taken last."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Served:
    """An artifact as a service holds it, without HTTP, batches of several requests, and the deep graph."""

    def __init__(self, artifact: Artifact) -> None:
        self.inputs, self.encoder, baseline = make_input_encoder(artifact), Encoder(artifact), read_baseline(artifact)
        self.graph = self.encoder.session.run = Timed(self.encoder.session.run)  # type: ignore[method-assign]
        self.writer = PredictionWriter(artifact.manifest, baseline)
        assert baseline.summarize is not None
        self.drift = Timed(baseline.summarize)
        self.recorder = NormRecorder(artifact.manifest.layers, self.drift, limits=baseline.limits)


@dataclass(frozen=True, slots=True)
class Case:
    """Requests of one size.

    Attributes:
        top_k: labels in an answer.
    """

    served: Served
    tokens: int = SHORT
    top_k: int = 1

    def run(self, seed: int) -> Parts:
        """One round of TEXTS texts, which are different in each."""
        served = self.served
        tokenize = pack = evidence = write = 0.0
        batches: list[EncodedBatch] = []
        texts = [text_of(self.tokens, seed * (TEXTS + 1) + place) for place in range(TEXTS + 1)]
        for place, body in enumerate([json.dumps({"inputs": [text], "top_k": self.top_k}).encode() for text in texts]):
            if place == 1:  # the first one warms up
                tokenize = pack = evidence = write = 0.0
                served.graph.take()
            started = cpu()
            request = PredictRequest.model_validate_json(body)
            encoded = served.inputs.encode(request.inputs)
            tokenized = cpu()
            batch = served.encoder.run([item.tokens for item in encoded])
            ran = cpu()
            served.writer.write(encoded, batch, request)
            written = cpu()
            assert batch.lengths.tolist() == [self.tokens], "a word was more than one token"
            tokenize, write = tokenize + tokenized - started, write + written - ran
            pack, evidence = pack + served.encoder.pack_seconds, evidence + ran - tokenized
            batches.append(batch)
        graph = served.graph.take()
        record, drift = self.record(batches)
        each = (graph, tokenize, pack, evidence - pack - graph)
        return Parts(*(seconds / TEXTS for seconds in each), record, drift, write / TEXTS)

    def record(self, batches: Sequence[EncodedBatch]) -> tuple[float, float]:
        """Seconds a text, recording and what drift is judged by: of as many texts as are folded together.

        Without the graph, which would have to run for all of them; the first time warms up.
        """
        texts = max(1, TOKENS // self.tokens)
        for _ in range(2):
            self.served.drift.take()
            started = cpu()
            for place in range(texts):
                self.served.recorder.observe(batches[place % len(batches)])
            seconds, drift = cpu() - started, self.served.drift.take()
        return (seconds - drift) / texts, drift / texts


def measure(cases: Mapping[Any, Case], seconds: float) -> dict[Any, Parts]:
    """Medians over rounds of all cases, for about so many seconds."""
    rounds: dict[Any, list[Parts]] = {name: [] for name in cases}
    until, turn = time.perf_counter() + seconds, 0
    while turn < LEAST_ROUNDS or time.perf_counter() < until:
        for name, case in cases.items():
            rounds[name].append(case.run(turn))
        turn += 1
    return {name: middle(found[1:]) for name, found in rounds.items()}


def points(found: Mapping[int, Parts], name: str) -> Points:
    """A part in microseconds a text, by size."""
    return {size: 1e6 * getattr(parts, name) for size, parts in found.items()}


def make_curve(
    name: str, groups: Mapping[str, Mapping[int, Parts]], note: str, graphs: Sequence[str], sizes: str = ""
) -> Curve:
    """The table and the lines of several groups of sizes.

    Args:
        sizes: what they are, where the curve's name does not say it.
        graphs: the groups whose graph the picture shows; it takes the same in the others.
    """
    rows, lines = [], dict[str, Points]()
    for group, found in groups.items():
        for size, parts in found.items():
            costs = [number(1e6 * getattr(parts, part)) for part in SHOWN]
            share = parts.outside / (parts.outside + parts.graph)
            rows.append([f"{group}: {size:,}", *costs, f"{share:.0%}"])
        rows += [[*row, ""] for row in growth_rows(f"{group}: ", [points(found, part) for part in SHOWN])]
        lines |= {f"outside, {group}": points(found, "outside")}
        lines |= {f"graph, {group}": points(found, "graph")} if group in graphs else {}
    header = ("µs a text", *SHOWN, "share outside")
    return Curve(name, note, header, rows, lines, (sizes or name, "µs a text"))


def tokens(lengths: Iterable[int], seconds: float, tell: Tell) -> Curve:
    lengths, shape = list(lengths), Shape(4, 128, 10, max(lengths))
    tell(f"tokens: exporting {shape}")
    served = Served(make_artifact(shape))
    found = measure({length: Case(served, length) for length in lengths}, seconds)
    note = f"{shape.layers} layers of width {shape.width}, {shape.norms} norms, one text a request."
    return make_curve("tokens", {"tokens": found}, note, ["tokens"])


def network(layers: Sequence[int], widths: Sequence[int], seconds: float, tell: Tell) -> Curve:
    """Layers at the smallest width, then widths at the most layers."""
    deepest = max(layers)
    shapes = [Shape(count, min(widths)) for count in layers] + [Shape(deepest, width) for width in widths]
    cases = {}
    for shape in dict.fromkeys(shapes):
        tell(f"network: exporting {shape}")
        cases[shape] = Case(Served(make_artifact(shape)))
    found = measure(cases, seconds)
    groups = {
        f"layers of {min(widths)}": {count: found[Shape(count, min(widths))] for count in layers},
        f"width of {deepest} layers": {width: found[Shape(deepest, width)] for width in widths},
    }
    note = f"Texts of {SHORT} tokens, one a request; 12 layers of width 768 are BERT-base."
    return make_curve("network", groups, note, list(groups), "layers, or width")


def classes(counts: Iterable[int], seconds: float, tell: Tell) -> Curve:
    cases = {}
    for count in counts:
        tell(f"classes: exporting {count:,}")
        served = Served(make_artifact(Shape(classes=count)))
        cases |= {(labels, count): Case(served, top_k=top_k) for labels, top_k in LABELS.items()}
    found = measure(cases, seconds)
    groups: dict[str, dict[int, Parts]] = {labels: {} for labels in LABELS}
    for (labels, count), parts in found.items():
        groups[labels][count] = parts
    note = f"{Shape().layers} layers of width {Shape().width}, texts of {SHORT} tokens; an answer has so many labels."
    return make_curve("classes", groups, note, ["1 label"])
