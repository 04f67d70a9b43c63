"""What packing saves and what the statistics and the graph plan cost, without HTTP, as ratios in one run.

The embedded model, one thread; sequences of random tokens, their lengths like those of clinc150 (4 to 31, mean 10.7).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from export.timing import Timing, compare
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack, pad
from runtime.manifest import MODEL
from runtime.statistics.recorder import NormRecorder
from service.settings import Settings

TEXTS = 512


def main(model: Path | None = None) -> None:
    """Measures and prints every table."""
    artifact = read_artifact(model or Settings().model)
    encoder = Encoder(artifact)
    sequences = random_sequences(artifact, TEXTS)
    console = Console()
    console.print(f"{artifact.path}, onnxruntime {ort.__version__}, one thread, {TEXTS} sequences")
    for texts in (1, 4, 8, 16, 32, 64):
        show(console, f"{texts} texts at hand", packing_variants(encoder, sequences, texts))
    for texts in (1, 8, 32):
        show(console, f"statistics, batches of {texts}", statistics_variants(artifact, encoder, sequences, texts))
    for texts in (1, 32):
        show(console, f"graph plan, batches of {texts}", plan_variants(artifact, encoder, sequences, texts))


def random_sequences(artifact: Artifact, count: int) -> list[Tokens]:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(6.5, 1.65, count).round().astype(int), 4, min(31, artifact.manifest.inputs.max_tokens))
    vocabulary = 1000  # the graph's time does not depend on which tokens it reads
    return [rng.integers(1, vocabulary, length) for length in lengths]


def batches(sequences: Sequence[Tokens], size: int) -> list[Sequence[Tokens]]:
    return [sequences[start : start + size] for start in range(0, len(sequences), size)]


def packing_variants(encoder: Encoder, sequences: list[Tokens], texts: int) -> dict[str, Callable[[], object]]:
    groups = batches(sequences, texts)

    def packed() -> None:
        for group in groups:
            encoder.run(group)

    def padded() -> None:
        for group in groups:
            encoder.run_packed(pad(group))

    def one_by_one() -> None:
        for sequence in sequences:
            encoder.run([sequence])

    return {"padded": padded, "packed": packed, "one by one": one_by_one}


def statistics_variants(
    artifact: Artifact, encoder: Encoder, sequences: list[Tokens], texts: int
) -> dict[str, Callable[[], object]]:
    groups = batches(sequences, texts)
    recorder = NormRecorder(artifact.manifest.layers, read_baseline(artifact).summarize)
    packs = [pack(group) for group in groups]
    bare = session(without_statistics(artifact.files[MODEL]))

    def off() -> None:
        for group, packed in zip(groups, packs, strict=True):
            pack(group)
            bare.run(None, encoder.feeds(packed))

    def on() -> None:
        for group in groups:
            recorder.observe(encoder.run(group))

    return {"statistics off": off, "statistics on and recorded": on}


def without_statistics(model: bytes) -> bytes:
    """The same graph with logits and embedding as its only outputs."""
    proto = onnx.load_from_string(model)
    kept = [output for output in proto.graph.output if output.name in ("logits", "embedding")]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    return proto.SerializeToString()


def plan_variants(
    artifact: Artifact, encoder: Encoder, sequences: list[Tokens], texts: int
) -> dict[str, Callable[[], object]]:
    feeds = [encoder.feeds(pack(group)) for group in batches(sequences, texts)]
    default = session(artifact.files[MODEL], [])

    def run(which: ort.InferenceSession) -> None:
        for feed in feeds:
            which.run(None, feed)

    return {"default plan": lambda: run(default), "served plan": lambda: run(encoder.session)}


def session(model: bytes, disabled: Sequence[str] = ("SkipLayerNormFusion",)) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled))


def show(console: Console, title: str, variants: dict[str, Callable[[], object]]) -> None:
    table = Table(
        "variant", "us per text", "time / reference", "10 to 90 % of rounds", title=title, title_justify="left"
    )
    timings: dict[str, Timing] = compare(variants)
    for name, timing in timings.items():
        low, high = timing.spread
        table.add_row(name, f"{timing.seconds / TEXTS * 1e6:.0f}", f"{timing.ratio:.3f}", f"{low:.3f} to {high:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
