"""Whether graphs are right on a provider: answers and statistics against float64, and where their nodes run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.batches import Batch
from benchmarks.gpu.network import Network, Shape
from benchmarks.gpu.sessions import PLANS, Graph, Weights, content, observe
from benchmarks.gpu.settings import Entries, Missing
from benchmarks.gpu.timing import reason

FILLED = 0.1  # relative; statistics that are farther off than any rounding have not been computed
Arrays = Mapping[str, NDArray[Any]]


def make_network(shape: Shape, weights: Weights) -> Network:
    """The reference in float32 on the CPU, with these weights, in evaluation mode."""
    with torch.device("meta"):
        network = Network(shape)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


@torch.inference_mode()
def expect(network: Network, batch: Batch) -> dict[str, NDArray[np.float64]]:
    """What is right: every output in float64."""
    outputs = network.double().outputs(*batch.tensors("cpu", torch.float64))
    return {name: value.numpy() for name, value in outputs.items()}


def errors(found: Arrays, expected: Arrays, batch: Batch) -> dict[str, float]:
    """How far a graph's outputs are from the reference at most.

    `logits` and `embedding`: absolute. `means`: of a token's mean at a norm, in its standard deviations.
    `inverse_deviations`: of a token's 1/sigma, relative. Padding is not compared.
    """
    result = {name: float(np.abs(found[name] - expected[name]).max()) for name in ("logits", "embedding")}
    if "norm_statistics" in found:
        ours, theirs = (valid(outputs["norm_statistics"], batch) for outputs in (found, expected))
        inv_std = theirs[:, 1::2]
        result["means"] = float((np.abs(ours[:, 0::2] - theirs[:, 0::2]) * inv_std).max())
        result["inverse_deviations"] = float(np.abs(ours[:, 1::2] / inv_std - 1).max())
    return result


def valid(per_token: NDArray[Any], batch: Batch) -> NDArray[np.float64]:
    """Statistics of the valid tokens [N, 2L]."""
    return per_token.reshape(-1, per_token.shape[-1]).astype(np.float64)[batch.token_index]


def check(
    graph: Graph, weights: Weights, expected: Arrays, batch: Batch, device: str, threads: int
) -> tuple[Entries, Missing]:
    """One entry for each plan, of a graph with statistics; and what did not run.

    On CUDA, float32 products are TF32 by default; a further entry, `no tf32`, has them exact.
    """
    blob, found, failed = content(graph, weights), Entries(), Missing()
    options: dict[str, dict[str, str]] = {"": {}}
    if device == "cuda" and graph.precision == "fp32":
        options["no tf32"] = {"use_tf32": "0"}
    for plan in PLANS:
        for note, provider_options in options.items():
            entry: dict[str, Any] = {"network": graph.network, "precision": graph.precision, "plan": plan, "note": note}
            try:
                seen = observe(graph, blob, device, plan, threads, batch.feeds, provider_options)
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                failed.append({"what": f"parity {graph.path.stem} {plan} {note}".strip(), "why": reason(error)})
                continue
            wrong = errors(seen.outputs, expected, batch)
            filled = wrong["means"] < FILLED and wrong["inverse_deviations"] < FILLED  # false for NaN
            entry |= wrong | {"statistics_filled": filled}
            found.append(entry | {"provider": device, "assigned": seen.assigned, "ran": seen.ran})
    return found, failed
