"""C19: RMSNorm against LayerNorm: is it as good, and is it faster?

An encoder of 4 layers with the norm before each sublayer learns digits with Adam, each norm at the rate that was best
for it; measured is the test loss. Then its training step and its exported graph, which hands out the norm statistics,
are timed beside those of a LayerNorm encoder of the same size, in turns: the median ratio of the times, in per cent
above it (`training`, `serving`), and of the graph's bytes (`bytes`). LayerNorm beside itself shows the noise.
"""

# P packs, S tokens per pack

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import onnxruntime as ort
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from export.graph import ServedEncoder, to_onnx
from export.timing import compare
from model.network.config import NormKind
from runtime.graph.packing import PackedBatch, pack
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import Sequences, encoder, norm_of
from studies.pictures import colour, label, points
from studies.tasks import Split, digits
from studies.training import make_optimizer, measured, train

NORMS: tuple[NormKind, ...] = ("layer_norm", "rms_norm")
RATES, LAYERS, WIDTH, BATCH, STEPS = (1e-3, 3e-3, 1e-2), 4, 64, 32, 120
ROWS, ROUNDS = 32, 40  # that are served together; of timing
LOSS, PERCENT = 0.05, 3.0  # nats: about a point of accuracy; of the time, which is beyond the noise


def arm(norm: str, part: str) -> Setting:
    return {"norm": norm, "part": part}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    yield from tuned_cells(found, seeds, [arm(norm, "loss") for norm in NORMS], RATES, "loss")
    for norm in NORMS:
        yield from (Cell.of(seed, **arm(norm, "cost")) for seed in seeds)


def make(norm: NormKind) -> Sequences:
    return encoder(norm, "pre", LAYERS, d_model=WIDTH)


def run(cell: Cell) -> Measures:
    training, test = digits("sequences", cell.seed)
    network = make(norm_of(cell))
    if cell["part"] == "cost":
        return costs(make("layer_norm"), network, test)
    rate = cell.number("rate")
    losses = train(network, training, rate=rate, batch=BATCH, steps=STEPS, seed=cell.seed, optimizer="adam")
    return measured(network, losses, test)


def costs(reference: Sequences, network: Sequences, test: Split) -> dict[str, float]:
    """How much more than the reference takes, in per cent."""
    batch = Split(test.inputs[:ROWS], test.targets[:ROWS])
    packed = pack([row.numpy() for row in batch.inputs])
    steps = {"reference": stepper(reference, batch), "network": stepper(network, batch)}
    graphs = {"reference": graph_of(reference, packed), "network": graph_of(network, packed)}
    served = {name: partial(serve, graph, packed) for name, graph in ((n, session(g)) for n, g in graphs.items())}
    ratios = {
        "training": compare(steps, ROUNDS)["network"].ratio,
        "serving": compare(served, ROUNDS)["network"].ratio,
        "bytes": len(graphs["network"]) / len(graphs["reference"]),
    }
    return {name: 100 * (ratio - 1) for name, ratio in ratios.items()}


def stepper(network: nn.Module, batch: Split) -> Callable[[], None]:
    """One step of training."""
    optimizer = make_optimizer("adam", network.train(), RATES[0])

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def graph_of(network: Sequences, packed: PackedBatch) -> bytes:
    """The graph as it is served, with the statistics of every norm."""
    return to_onnx(ServedEncoder(network.encoder), packed).SerializeToString()


def session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def serve(graph: ort.InferenceSession, packed: PackedBatch) -> None:
    arrays = (packed.values, packed.position_ids, packed.segment_ids, packed.pooling)
    names = [each.name for each in graph.get_inputs()]
    graph.run(None, dict(zip(names, arrays, strict=True)))


def cheaper(text: str, measure: str) -> Comparison:
    return Comparison(text, measure, arm("rms_norm", "cost"), arm("layer_norm", "cost"), "below", PERCENT)


COMPARISONS = (
    Comparison(
        "RMSNorm ends at the same test loss as LayerNorm",
        "loss", arm("layer_norm", "loss"), arm("rms_norm", "loss"), "alike", LOSS,
    ),
    cheaper("A training step takes 3 % less time with RMSNorm", "training"),
    cheaper("An exported graph, which hands out norm statistics, takes 3 % less time", "serving"),
    cheaper("and has 3 % fewer bytes", "bytes"),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    left, *others = figure.subplots(1, 4)
    names = {norm: label(norm) for norm in NORMS}
    points(left, {name: found.values("loss", seeds, **arm(norm, "loss")) for norm, name in names.items()},
           [colour(norm) for norm in NORMS])  # fmt: skip
    left.set_title("test loss (nats)\n")
    titles = {
        "training": "time of a training step\n(% above LayerNorm)",
        "serving": "time of a served batch\n(% above)",
        "bytes": "bytes of the graph\n(% above)",
    }
    for axes, (measure, title) in zip(others, titles.items(), strict=True):
        arms = {name: found.values(measure, seeds, **arm(norm, "cost")) for norm, name in names.items()}
        points(axes, arms, [colour(norm) for norm in NORMS])
        axes.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=0)
        axes.set_title(title)
    for axes in (left, *others):
        axes.tick_params(axis="x", labelsize=8)


CLAIM = Claim(
    number="C19",
    title="RMSNorm",
    notes="People ask: is RMSNorm as good as LayerNorm, and faster?",
    experiment="An encoder of 4 layers with LayerNorm and with RMSNorm before each sublayer: test loss at its best "
    "rate; time of a training step, and of the exported graph with its norm statistics on one core (times: they vary).",
    holds="As good, in most reports. It saves the mean and the bias; how much time that is depends on the kernel. A "
    "LayerNorm has computed the mean and the variance that this service shows; RMSNorm has not, so there they cost "
    "more. Both can be observed alike.",
    anchor="Zhang & Sennrich 2019, arXiv:1910.07467: quality comparable with LayerNorm's, in 7 to 64 % less time, by "
    "model.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
