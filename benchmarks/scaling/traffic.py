"""Made-up traffic of made-up networks: what their norms see, and what drift is judged by, at any rate and time."""

from collections.abc import Callable, Sequence

import numpy as np

from runtime.graph.batch import EncodedBatch
from runtime.manifest import NormLayer
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.traffic import Traffic

D_MODEL, CLASSES, TOKENS = 384, 150, 10  # tokens of a request
NUMBERS = 4  # of a request, beside those of its norms
VARIANTS = 64  # different batches
HOUR, DAY, SHORT, LONG = 3600, 86_400, 10, 300  # seconds; of the buckets of an hour and of a day


def layers(count: int) -> list[NormLayer]:
    return [
        NormLayer(name=f"blocks.{n // 2}.norm{n % 2}", kind="layer_norm", placement="post", d_model=D_MODEL, eps=1e-5)
        for n in range(count)
    ]


def batches(norms: int, requests: int, seed: int = 0) -> list[EncodedBatch]:
    """Some batches of so many requests: means around 0, variances over an octave or two, as trained networks have."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=norms)
    made = []
    for _ in range(VARIANTS):
        count = requests * TOKENS
        values = np.empty((count, 2 * norms), dtype=np.float32)
        values[:, ::2] = rng.normal(0.02 * places, 0.05, (count, norms))
        values[:, 1::2] = rng.lognormal(places, 0.2, (count, norms))
        classes = rng.integers(CLASSES, size=requests).tolist()
        numbers = [float(value) for value in rng.normal(size=requests)]
        made.append(
            EncodedBatch(
                logits=np.zeros((requests, CLASSES), dtype=np.float32),
                embedding=np.zeros((requests, 1), dtype=np.float32),
                norm_statistics=values,
                feature_moments=[],
                lengths=np.full(requests, TOKENS),
                token_lengths=np.full(count, 4.0, dtype=np.float32),
                classes=classes,
                scores=[0.9] * requests,
                evidence=numbers,
                entropies=numbers,
                identities=rng.integers(1 << 63, size=requests).tolist(),
            )
        )
    return made


def summary(norms: int) -> Callable[[EncodedBatch], Traffic]:
    """Sums a batch up in as many numbers as a baseline's would be, without judging it."""
    rng = np.random.default_rng(1)

    def summarize(batch: EncodedBatch) -> Traffic:
        numbers = rng.normal(size=(len(batch.lengths), 2 * norms + NUMBERS))
        judged = rng.random((2, len(batch.lengths)))
        return Traffic.of(numbers, np.array(batch.classes), CLASSES, batch.identities, judged)

    return summarize


def recorder(norms: int, now: list[float]) -> NormRecorder:
    """One that sees this traffic at the time that `now` holds (Unix seconds)."""
    return NormRecorder(layers(norms), summary(norms), lambda: now[0])


def fill(recorder: NormRecorder, end: float, small: Sequence[EncodedBatch], large: Sequence[EncodedBatch]) -> None:
    """A batch in every bucket of the day that ends then (Unix seconds): large ones, and small ones in its last hour."""
    at, clock = [0.0], recorder.clock
    recorder.clock = lambda: at[0]
    for number, when in enumerate([*np.arange(end - DAY, end - HOUR, LONG), *np.arange(end - HOUR, end, SHORT)]):
        at[0], chosen = float(when), large if when < end - HOUR else small
        recorder.observe(chosen[number % len(chosen)])
    recorder.since, recorder.clock = end - DAY, clock
