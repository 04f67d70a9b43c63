"""Every norm of an exported encoder is found, named and observed, whoever exported it and whatever was done since."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from runtime.graph.session import open_session
from tests.export.adopt.norms.exports import (
    WIDTH,
    between_integers,
    exported,
    feeds,
    fused,
    in_half,
    in_integers,
    norm_names,
    served,
)
from tests.export.adopt.norms.graphs import adopt

PLAIN = {  # how norms are written in each file
    ("bert", 11, False): "decomposed",
    ("distilbert", 14, False): "decomposed",
    ("modernbert", 14, False): "decomposed",
    ("roberta", 17, False): "LayerNormalization",
    ("shallow", 18, True): "LayerNormalization",
    ("t5", 14, False): "decomposed",
    ("eurobert", 18, False): "decomposed",
}
CHANGED = {
    "fused": ("bert", 14, fused, {"EmbedLayerNormalization": 1, "SkipLayerNormalization": 4}, 1e-5),
    "integers": ("bert", 14, in_integers, {"decomposed": 5}, 1e-5),
    "between integers": ("bert", 14, between_integers, {"decomposed": 5}, 1e-5),
    "integers, named": ("bert", 17, between_integers, {"LayerNormalization": 5}, 1e-5),
    "half": ("bert", 14, in_half, {"decomposed": 5}, 1e-3),
    "half, named": ("bert", 17, in_half, {"LayerNormalization": 5}, 1e-3),
    "half, RMSNorm": ("eurobert", 14, in_half, {"decomposed": 5}, 1e-3),
}


@pytest.mark.parametrize(("file", "written"), PLAIN.items(), ids=[f"{n}-{o}-{d}" for n, o, d in PLAIN])
def test_norms_are_found_in_order_and_observed(file: tuple[str, int, bool], written: str):
    adopted = adopt(onnx.load_from_string(exported(*file)), feeds())
    assert [norm.name for norm in adopted.norms] == norm_names(file[0]) and not adopted.unobserved
    assert {(norm.written, norm.d_model) for norm in adopted.norms} == {(written, WIDTH)}
    assert {norm.kind for norm in adopted.norms} == {"rms_norm" if file[0] in ("t5", "eurobert") else "layer_norm"}
    assert max(adopted.agreement.statistics.values()) < 1e-5 and adopted.agreement.outputs < 1e-5


@pytest.mark.parametrize(("family", "opset", "change", "written", "error"), CHANGED.values(), ids=CHANGED)
def test_norms_are_observed_after_what_others_do_with_a_file(
    family: str,
    opset: int,
    change: Callable[[bytes, Path], bytes],
    written: dict[str, int],
    error: float,
    tmp_path: Path,
):
    adopted = adopt(onnx.load_from_string(change(exported(family, opset), tmp_path)), feeds())
    assert [norm.name for norm in adopted.norms] == norm_names(family) and not adopted.unobserved
    assert Counter(norm.written for norm in adopted.norms) == written
    assert max(adopted.agreement.statistics.values()) < error
    assert adopted.agreement.outputs < (2e-3 if change is in_half else 1e-5)


def test_statistics_are_those_of_the_network_that_was_exported():
    network = served("bert").model
    session, _ = open_session(adopt(onnx.load_from_string(exported("bert", 14)), feeds()).after, "cpu", 1)
    inputs: list[torch.Tensor] = []
    norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
    hooks = [norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for norm in norms]
    batch = feeds()[0]
    with torch.inference_mode():
        network(**{name: torch.from_numpy(values) for name, values in batch.items()})
    for hook in hooks:
        hook.remove()
    (statistics,) = session.run(["norm_statistics"], batch)
    wide = torch.stack(inputs, 2).double()
    variance, mean = torch.var_mean(wide, -1, correction=0)
    assert statistics.shape == (2, 9, 10) and statistics.dtype == np.float32
    np.testing.assert_allclose(statistics[..., 0::2], mean, atol=1e-5)
    np.testing.assert_allclose(statistics[..., 1::2], torch.rsqrt(variance + norms[0].eps), rtol=1e-5)
