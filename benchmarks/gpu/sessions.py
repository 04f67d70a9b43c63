"""Graphs without weights, weights by seed, and sessions of both; where a session's nodes run."""

import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.gpu.network import Network, Shape

LIST = "graphs.json"
WEIGHTS = "weights.bin"  # where the graphs say that their weights lie: a file that there is not
SCALE = 0.02  # standard deviation of a matrix, as BERT's initialization: Devlin et al. 2018, arXiv:1810.04805
PLANS: dict[str, list[str]] = {"default": [], "unfused": ["SkipLayerNormFusion", "EmbedLayerNormFusion"]}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
RECORD = "session.record_ep_graph_assignment_info"

Weights = Mapping[str, NDArray[np.float32]]
Nodes = dict[str, dict[str, int]]  # by provider, how many nodes of each type


@dataclass(frozen=True, slots=True)
class Initializer:
    """A weight of a graph, and which parameter of the network it is.

    Attributes:
        shape: as the graph has it; the parameter's own, or with `transposed` the other way round.
        dtype: `float32`, or `float16` for the parameter rounded.
        offset: in bytes, in the content of WEIGHTS.
        length: in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    length: int
    parameter: str
    transposed: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph of a network.

    Attributes:
        precision: `fp32` or `fp16`.
        statistics: whether `norm_statistics` is one of its outputs.
    """

    path: Path
    network: str
    shape: Shape
    precision: str
    statistics: bool
    initializers: tuple[Initializer, ...]


def read_graphs(folder: Path) -> list[Graph]:
    """The graphs that benchmarks/gpu/graphs.py wrote."""
    return [
        Graph(
            folder / item["file"],
            item["network"],
            Shape(**item["shape"]),
            item["precision"],
            item["statistics"],
            tuple(Initializer(**part | {"shape": tuple(part["shape"])}) for part in item["initializers"]),
        )
        for item in json.loads((folder / LIST).read_text())
    ]


def make_weights(shape: Shape, seed: int = 0) -> Weights:
    """Every parameter of a network, by name; each from a generator of its own, seeded by its name.

    Matrices are normal with SCALE, biases as well, the norms' weights are 1 plus such noise.
    """
    with torch.device("meta"):
        parameters = {name: tuple(parameter.shape) for name, parameter in Network(shape).named_parameters()}
    return {name: draw(name, size, seed) for name, size in parameters.items()}


def draw(name: str, size: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(size, dtype=np.float32)
    values *= np.float32(SCALE)
    if name.endswith("norm.weight"):
        values += np.float32(1)
    return values


def content(graph: Graph, weights: Weights) -> bytes:
    """What the graph's file of weights would contain."""
    found = np.zeros(max(item.offset + item.length for item in graph.initializers), dtype=np.uint8)
    for item in graph.initializers:
        values = weights[item.parameter].T if item.transposed else weights[item.parameter]
        stored = np.ascontiguousarray(values, dtype=item.dtype)
        if stored.shape != item.shape:
            raise ValueError(
                f"{item.parameter} has shape {stored.shape}, expected {item.shape}: export the graphs again"
            )
        found[item.offset : item.offset + item.length] = stored.reshape(-1).view(np.uint8)
    return found.tobytes()


@dataclass(frozen=True, slots=True)
class Session:
    """A session, and the weights that it reads: they have to outlive it."""

    session: ort.InferenceSession
    weights: bytes

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(feeds)), strict=True))


def open_session(
    graph: Graph,
    weights: bytes,
    device: str,
    plan: str,
    threads: int,
    profile: Path | None = None,
    provider_options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session as runtime/graph/session.py does.

    Args:
        weights: from `content`.
        profile: how the names of profiles begin, where one is to be written; the session then records placement too.

    Raises:
        RuntimeError: the session does not run on `device`.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    if profile is not None:
        options.add_session_config_entry(RECORD, "1")
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    providers: list[Any] = [(PROVIDERS[device], dict(provider_options or {}))]
    providers += [PROVIDERS["cpu"]] if device != "cpu" else []
    session = ort.InferenceSession(
        graph.path.read_bytes(), options, providers=providers, disabled_optimizers=PLANS[plan]
    )
    session.disable_fallback()
    if PROVIDERS[device] not in session.get_providers():
        raise RuntimeError(f"{PROVIDERS[device]} did not load: onnxruntime runs on {session.get_providers()}")
    return Session(session, weights)


@dataclass(frozen=True, slots=True)
class Observed:
    """One run that was watched.

    Attributes:
        outputs: by name.
        assigned: what each provider took when the graph was divided, before most fusions; None where this onnxruntime
            does not say.
        ran: what each provider ran, after all fusions, from the profile.
    """

    outputs: dict[str, NDArray[Any]]
    assigned: Nodes | None
    ran: Nodes


def observe(
    graph: Graph,
    weights: bytes,
    device: str,
    plan: str,
    threads: int,
    feeds: Mapping[str, NDArray[Any]],
    provider_options: Mapping[str, str] | None = None,
) -> Observed:
    """Runs a graph once, and says where its nodes ran."""
    with tempfile.TemporaryDirectory() as folder:
        opened = open_session(graph, weights, device, plan, threads, Path(folder) / "profile", provider_options)
        outputs = opened.run(feeds)
        events = json.loads(Path(opened.session.end_profiling()).read_text())
        return Observed(outputs, assigned_nodes(opened.session), nodes_that_ran(events))


def assigned_nodes(session: ort.InferenceSession) -> Nodes | None:
    if not hasattr(session, "get_provider_graph_assignment_info"):  # since onnxruntime 1.24
        return None
    pairs = [
        (part.ep_name, node.op_type)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]
    return count(pairs)


def nodes_that_ran(events: Sequence[Mapping[str, Any]]) -> Nodes:
    """Node types by provider, from the events of a profile of one run."""
    kernels = [item["args"] for item in events if item.get("cat") == "Node" and "provider" in item.get("args", {})]
    return count([(args["provider"], args["op_name"]) for args in kernels if args["provider"]])


def count(pairs: Sequence[tuple[str, str]]) -> Nodes:
    found: dict[str, Counter[str]] = {}
    for provider, kind in pairs:
        found.setdefault(provider, Counter())[kind] += 1
    return {provider: dict(sorted(kinds.items())) for provider, kinds in found.items()}
