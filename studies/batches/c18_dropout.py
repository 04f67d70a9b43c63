"""C18: BatchNorm belongs between the linear layer and the activation, and lessens the need for dropout.

An MLP of 3 hidden layers learns 100, 1,000 or 3,000 digits, written with a pen and given as 8 points, other ones for
each seed: without a norm, and with BatchNorm before or after the ReLU; without dropout, and with 30 % of it after each
hidden layer; each arm at the rate that was best for it. Measured is the test loss. Dropout is needed less if it lowers
the loss without a norm, and hardly changes it with one.
"""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from torch import nn

from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting, tuned_cells
from studies.networks import RowNorm
from studies.pictures import colour, points
from studies.recordings import POINTS, pen_digits
from studies.tasks import CLASSES, Split
from studies.training import measured, train

PLACES = {"none": "no norm", "before": "before", "after": "after"}
DROPOUT, ROWS, RATES = (0.0, 0.3), (100, 1000, 3000), (0.03, 0.1, 0.3, 1.0)
FEATURES, DEPTH, WIDTH, BATCH, STEPS = 2 * POINTS, 3, 64, 32, 400
LOSS = 0.05  # nats: about a point of accuracy


def arm(place: str, dropout: float, rows: int) -> Setting:
    return {"place": place, "dropout": dropout, "rows": rows}


def cells(found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    arms = [arm(place, dropout, rows) for place in PLACES for dropout in DROPOUT for rows in ROWS]
    return tuned_cells(found, seeds, arms, RATES, "loss")


def network_of(place: str, dropout: float) -> nn.Sequential:
    """Hidden layers and a linear one to classes; the same initialization in all arms."""
    parts: list[nn.Module] = []
    for index in range(DEPTH):
        linear = nn.Linear(WIDTH if index else FEATURES, WIDTH)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        orders: dict[str, list[nn.Module]] = {
            "none": [nn.ReLU()],
            "before": [RowNorm("batch_norm", WIDTH), nn.ReLU()],
            "after": [nn.ReLU(), RowNorm("batch_norm", WIDTH)],
        }
        parts += [linear, *orders[place], nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(WIDTH, CLASSES))


def flat(split: Split) -> Split:
    """Paths [N, S, F + 1] as rows [N, S x F]."""
    return Split(split.inputs[..., :-1].flatten(1), split.targets)


def run(cell: Cell) -> Measures:
    training, test = (flat(split) for split in pen_digits().of(cell.seed))
    few = training.random(cell.whole("rows"), cell.seed)
    network = network_of(cell.text("place"), cell.number("dropout"))
    losses = train(network, few, rate=cell.number("rate"), batch=BATCH, steps=STEPS, seed=cell.seed)
    return measured(network, losses, test)


COMPARISONS = (
    Comparison(
        "With 3,000 digits, BatchNorm before the ReLU ends at a lower test loss than after it",
        "loss", arm("before", 0.0, 3000), arm("after", 0.0, 3000), "below", LOSS,
    ),
    Comparison(
        "and with 100",
        "loss", arm("before", 0.0, 100), arm("after", 0.0, 100), "below", LOSS,
    ),
    Comparison(
        "With 100 digits and without a norm, dropout lowers the test loss",
        "loss", arm("none", 0.3, 100), arm("none", 0.0, 100), "below", LOSS,
    ),
    Comparison(
        "With BatchNorm before the ReLU, dropout leaves it as it is",
        "loss", arm("before", 0.0, 100), arm("before", 0.3, 100), "alike", LOSS,
    ),
    Comparison(
        "BatchNorm without dropout ends at a lower test loss than dropout without a norm",
        "loss", arm("before", 0.0, 100), arm("none", 0.3, 100), "below", LOSS,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    for axes, rows in zip(figure.subplots(1, len(ROWS)), ROWS, strict=True):
        keys = [(place, dropout) for place in PLACES for dropout in DROPOUT]
        arms = {
            f"{PLACES[place]}\n{'dropout' if dropout else 'no dropout'}": found.values(
                "loss", seeds, **arm(place, dropout, rows)
            )
            for place, dropout in keys
        }
        points(axes, arms, [colour("none" if place == "none" else "batch_norm") for place, _ in keys])
        axes.set(title=f"{rows:,} digits", xlabel="BatchNorm: before or after the ReLU")
        axes.tick_params(axis="x", labelsize=6.5)
    figure.axes[0].set_ylabel("test loss (nats)")


CLAIM = Claim(
    number="C18",
    title="Place of BatchNorm, and dropout",
    notes="Typically inserted after a linear/convolutional layer and before the activation (like ReLU). Acts like a "
    "regularizer (sometimes reducing need for dropout).",
    experiment="An MLP of 3 layers learns 100, 1,000 or 3,000 digits, as a pen's path of 8 points, without a norm, or "
    "with BatchNorm before or after the ReLU, with and without 30 % dropout, each at its best rate (SGD, 400 steps); "
    "test loss.",
    holds="Before the activation is the usual place, not always the better one. BatchNorm may make dropout needless; "
    "where a network overfits, both can help.",
    anchor="Ioffe & Szegedy 2015, arXiv:1502.03167: BatchNorm before the nonlinearity, and dropout left out. Li et "
    "al. 2018, arXiv:1801.05134: dropout before BatchNorm shifts variance between training and inference.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
    prepare=pen_digits,
)
