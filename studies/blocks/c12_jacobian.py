"""C12: the gradient through a residual connection is dL/dx = dL/dy (1 + dF/dx), in which the 1 keeps it alive.

Exactly, in float64: the Jacobian of one Add & Norm of the product around self-attention or the feed-forward, with no
norm (the bare residual), LayerNorm before it, or after. Measured is how far two formulas are from it, as a share of its
Frobenius norm: the notes' I + J_F, and the chain rule's, which has the Jacobian of the norm, too: J_LN (I + J_F). With
the norm before the sublayer, F is both of them;
`passed` is the share of a gradient's length that one Add & Norm passes on.
"""

# S steps, D width, N = S * D values

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import layer_norm

from model.network.config import NormKind, Placement
from model.network.layers import AddNorm
from studies.claim import Cell, Claim, Comparison, Measures, Results, Setting
from studies.networks import encoder
from studies.pictures import colour, points

AROUND: dict[str, tuple[NormKind, Placement, str]] = {
    "bare": ("none", "post", "no norm"),
    "pre": ("layer_norm", "pre", "LayerNorm\nbefore"),
    "post": ("layer_norm", "post", "LayerNorm\nafter"),
}
SUBLAYERS = ("attention", "feed_forward", "weak")
FORMULAS = {"notes": "I + J of F", "chain": "chain rule"}
STEPS, WIDTH, WEAK = 4, 16, 0.1  # weak: both matrices times this, the Jacobian times a hundredth
EXACT, PASSED = 1e-10, 0.1  # of the Jacobian's norm, in float64; of a gradient's length


def arm(around: str, sublayer: str, formula: str) -> Setting:
    return {"around": around, "sublayer": sublayer, "formula": formula}


def cells(_found: Results, seeds: Sequence[int]) -> Iterator[Cell]:
    for arms in product(AROUND, SUBLAYERS, FORMULAS):
        yield from (Cell.of(seed, **arm(*arms)) for seed in seeds)


def run(cell: Cell) -> Measures:
    norm, placement, _ = AROUND[cell.text("around")]
    block = encoder(norm, placement, 1, d_model=WIDTH).encoder.blocks[0].double()
    found = block.attention if cell["sublayer"] == "attention" else block.feed_forward
    assert isinstance(found, AddNorm)
    if cell["sublayer"] == "weak":
        with torch.no_grad():
            for parameter in found.sublayer.parameters():
                parameter.mul_(WEAK)
    # normalized, as in an encoder: what a norm passes on depends on the deviation of what it reads
    x_N = layer_norm(torch.randn(STEPS, WIDTH, dtype=torch.float64), (WIDTH,)).flatten()
    context = (torch.ones(1, 1, STEPS, STEPS, dtype=torch.bool),) if cell["sublayer"] == "attention" else ()
    true_NN, notes_NN, chain_NN = jacobians(found, x_N, context)
    formula_NN = notes_NN if cell["formula"] == "notes" else chain_NN
    error = (formula_NN - true_NN).norm() / true_NN.norm()
    # root mean square over the directions of a gradient
    return {"error": float(error), "passed": float(true_NN.norm() / len(x_N) ** 0.5)}


def jacobians(found: AddNorm, x_N: Tensor, context: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The Jacobian [N, N] of an Add & Norm at x, by automatic differentiation: itself, I + J_F and J_LN (I + J_F)."""
    valid_1S1, shape = torch.ones(1, STEPS, 1, dtype=torch.float64), (1, STEPS, -1)
    is_post = found.placement == "post"

    def whole(x_N: Tensor) -> Tensor:
        return found(x_N.reshape(shape), valid_1S1, *context)[0].flatten()

    def norm(x_N: Tensor) -> Tensor:
        return found.norm(x_N.reshape(shape), valid_1S1)[0].flatten()

    def sublayer(x_N: Tensor) -> Tensor:
        return found.sublayer((x_N if is_post else norm(x_N)).reshape(shape), *context).flatten()

    notes_NN = torch.eye(len(x_N), dtype=torch.float64) + jacobian(sublayer, x_N)
    chain_NN = jacobian(norm, x_N + sublayer(x_N)) @ notes_NN if is_post else notes_NN
    return jacobian(whole, x_N), notes_NN, chain_NN


def jacobian(function: Callable[[Tensor], Tensor], x_N: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(function, x_N.detach())  # type: ignore[no-untyped-call]


def formula(text: str, around: str, sublayer: str) -> Comparison:
    a, b = arm(around, sublayer, "chain"), arm(around, sublayer, "notes")
    return Comparison(text, "error", a, b, "alike", EXACT)


COMPARISONS = (
    formula("1 + dF/dx is exact for the bare residual around self-attention", "bare", "attention"),
    formula("around the feed-forward", "bare", "feed_forward"),
    formula("with LayerNorm before self-attention", "pre", "attention"),
    formula("before the feed-forward", "pre", "feed_forward"),
    formula("through Add & Norm, LayerNorm(x + F(x)), around self-attention", "post", "attention"),
    formula("and around the feed-forward", "post", "feed_forward"),
    Comparison(
        "The 1 keeps a gradient alive where dF/dx is small: Add & Norm passes on as much as the bare residual",
        "passed", arm("bare", "weak", "notes"), arm("post", "weak", "notes"), "alike", PASSED,
    ),
)  # fmt: skip


def draw(found: Results, seeds: Sequence[int], figure: Figure) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    errors = {
        f"{name}\n{text}": np.maximum(found.values("error", seeds, **arm(around, "feed_forward", key)), 1e-17)
        for around, (_, _, name) in AROUND.items()
        for key, text in FORMULAS.items()
    }
    points(left, errors, [colour(norm) for norm, _, _ in AROUND.values() for _ in FORMULAS])
    left.set(
        yscale="log", title="how far a formula is from the Jacobian\n(share of its norm; feed-forward; 0 as 1e-17)"
    )
    passed = {name: found.values("passed", seeds, **arm(key, "weak", "notes")) for key, (_, _, name) in AROUND.items()}
    points(right, passed, [colour(norm) for norm, _, _ in AROUND.values()])
    right.set(ylim=(0, 1.1), title="gradient passed on, as a share\n(weak feed-forward)")
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=7)


CLAIM = Claim(
    number="C12",
    title="The gradient through a residual",
    notes="dL/dx = dL/dy (1 + dF/dx): the 1 keeps the gradient alive, even if dF/dx is small or noisy.",
    experiment="The Jacobian of one Add & Norm in float64, and how far I + J_F and J_LN (I + J_F) are from it.",
    holds="True of the bare residual, and with the norm before the sublayer, where F is the two of them. Through "
    "LayerNorm(x + F(x)) it is dL/dy J_LN (1 + dF/dx); the 1 is still there, and is scaled.",
    anchor="He et al. 2016, arXiv:1603.05027: identity shortcuts pass gradients on directly, if nothing scales them.",
    cells=cells,
    run=run,
    comparisons=COMPARISONS,
    draw=draw,
)
