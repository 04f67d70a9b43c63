"""The norm statistics by PyTorch forward hooks and as outputs of the graph, without HTTP, as ratios in one run.

    python -m benchmarks.cost.hooks [--write]        --write fills the table of docs/benchmarks.md

An encoder of the embedded model's shape with random weights, one thread; sequences of random tokens as in
benchmarks/cost/inference.py. Before anything is timed, hooks and graph must give the same statistics.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from benchmarks.cost.hooks_check import check_deep, check_norms
from benchmarks.cost.inference import TEXTS, batches, random_sequences, session, without_statistics
from benchmarks.cost.norm_hooks import NormHooks
from benchmarks.document import markdown, write_tables
from benchmarks.paired import summarize, time_rounds
from export.graph import ServedEncoder, as_tensors, to_onnx
from export.verify import spread
from model.network.config import Architecture, EncoderConfig
from model.network.encoder import Encoder as Network
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.statistics.buffer import TOKENS as FOLD_TOKENS
from runtime.statistics.recorder import NormRecorder
from service.settings import Settings

BATCHES = (1, 8, 32)
DOCUMENT = Path("docs/benchmarks.md")
# column of the table: the variant and what it is a multiple of
RATIOS = {
    "hooks": ("hooks", "torch"),
    f"hooks, {FOLD_TOKENS:,} tokens at a time": ("held", "torch"),
    "deep hooks": ("deep", "torch"),
    "graph outputs": ("statistics", "bare"),
}
HEADER = ["batch", "PyTorch, us per text", *RATIOS, "ONNX Runtime, us per text"]

Groups = Sequence[Sequence[Tokens]]
Run = Callable[[], None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.hooks", description="Hooks against graph outputs.")
    parser.add_argument("--write", action="store_true", help=f"fill the table of {DOCUMENT}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    artifact = read_artifact(Settings().model)
    network = random_network(artifact)
    graph = to_onnx(ServedEncoder(network), pack(spread(network.config)[-1])).SerializeToString()
    sequences = random_sequences(artifact, TEXTS)
    check(network, encoder_of(artifact, graph), sequences)
    print(f"torch {torch.__version__}, onnxruntime {ort.__version__}, one thread, {TEXTS} sequences\n")
    lines = []
    for size in BATCHES:
        groups = batches(sequences, size)
        lines.append([str(size), *measure(torch_variants(network, groups) | graph_variants(artifact, graph, groups))])
    table = markdown(HEADER, lines)
    print(table)
    if options.write:
        write_tables(DOCUMENT, {"hooks": table})


def random_network(artifact: Artifact) -> Network:
    """An encoder of the artifact's shape."""
    recipe, inputs = artifact.manifest.training["recipe"], artifact.manifest.inputs
    shape = {name: recipe[name] for name in Architecture.model_fields}
    torch.manual_seed(0)
    config = EncoderConfig(
        **shape,
        num_classes=len(artifact.manifest.labels),
        max_tokens=inputs.max_tokens,
        vocab_size=recipe["vocab_size"],
    )
    return Network(config).eval()


def encoder_of(artifact: Artifact, graph: bytes) -> Encoder:
    """The artifact's encoder over another graph of the same shape."""
    encoder = Encoder(artifact)
    encoder.session = session(graph)
    return encoder


def check(network: Network, encoder: Encoder, sequences: list[Tokens]) -> None:
    """Hooks, however they add up, give what the recorder behind the graph gives."""
    check_norms(network, encoder, sequences)
    check_norms(network, encoder, sequences, FOLD_TOKENS)
    check_deep(network, sequences)


def torch_variants(network: Network, groups: Groups) -> dict[str, Run]:
    """PyTorch alone and under three kinds of hooks; each time all traffic is added up when the round ends."""
    variants = {"torch": torch_run(network, groups, lambda: None)}
    for name, fold_tokens, deep in (("hooks", 0, False), ("held", FOLD_TOKENS, False), ("deep", 0, True)):
        watched = copy.deepcopy(network)
        variants[name] = torch_run(watched, groups, NormHooks(watched, fold_tokens, deep).fold)
    return variants


def torch_run(network: Network, groups: Groups, finish: Run) -> Run:
    @torch.inference_mode()
    def run() -> None:
        for group in groups:
            network(*as_tensors(pack(group)))
        finish()

    return run


def graph_variants(artifact: Artifact, graph: bytes, groups: Groups) -> dict[str, Run]:
    """ONNX Runtime without statistics, and with everything that the service records of them."""
    encoder, bare = encoder_of(artifact, graph), session(without_statistics(graph))
    recorder = NormRecorder(artifact.manifest.layers, read_baseline(artifact).summarize)

    def without() -> None:
        for group in groups:
            bare.run(None, encoder.feeds(pack(group)))

    def recorded() -> None:
        for group in groups:
            recorder.observe(encoder.run(group))
        recorder.state()

    return {"bare": without, "statistics": recorded}


def measure(variants: dict[str, Run]) -> list[str]:
    """One line of the table."""
    times = time_rounds(variants)
    timings = {name: summarize(times[variant], times[base]) for name, (variant, base) in RATIOS.items()}
    ratios = [f"{t.ratio:.2f} ({t.spread[0]:.2f} to {t.spread[1]:.2f})" for t in timings.values()]
    eager, compiled = (f"{np.median(times[name]) / TEXTS * 1e6:.0f}" for name in ("torch", "bare"))
    return [eager, *ratios, compiled]


if __name__ == "__main__":
    main()
