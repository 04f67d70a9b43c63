"""`addnorm adopt DIR`: from anybody's encoder to a verified artifact, with a baseline of the user's own texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.adopt.adds import with_adds
from export.adopt.baseline import Progress
from export.adopt.directory.deep import DeepTransformer, difference, to_both, verify_deep
from export.adopt.directory.reference import NetworkReference
from export.adopt.lower import lower_adopted, lower_deep
from export.adopt.parity import run_together, verify
from export.adopt.texts import Texts, check_labels
from export.adopt.writing import (
    Adopted,
    begin,
    canary_probes,
    check_pairs,
    encode,
    finish,
    make_canary,
    probes_of,
)
from export.deep import deep_graph
from export.graph import OPSET, only
from export.precision.choice import EXACT, Asked, choose
from export.precision.lower import with_layer_errors
from export.precision.tolerances import Cosines
from export.timing import with_manifest, with_plan
from model.pretrained.files import digests
from model.pretrained.load import load
from model.pretrained.packed import PackedTransformer
from model.pretrained.source import read_directory
from runtime.artifact import Artifact, check_target
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.manifest import CANARY, DEEP, MODEL, Unobserved
from runtime.precision import LowPrecision

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")
FEW = 16  # texts by which errors of single layers are told


def adopt_directory(
    directory: Path,
    texts: Texts,
    target: Path,
    pooling: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _done, _of: None,
    asked: Asked = EXACT,
) -> Adopted:
    """Adopts a Hugging Face or sentence-transformers directory as the artifact `target`, MODELS/NAME/VERSION.

    Args:
        texts: what normal traffic looks like.
        pooling: of an embedding model whose directory does not say it.
        asked: precision of the graph that is served; the float32 graph is verified first.

    Raises:
        ExportError, DataError: the directory or the texts cannot be used, the graph does not agree with PyTorch, or
            lower precision changes its answers too much.
        ArtifactError: the artifact exists already or cannot be written.
    """
    check_target(target, overwrite)
    source = read_directory(directory, pooling)
    check_pairs(source, texts)
    check_labels(texts, source.task)
    network = load(source)
    artifact = begin(
        source,
        texts,
        target,
        PACKAGES,
        **network_facts(network),
        training={
            "adopted_from": directory.resolve().name,
            "architecture": source.model_type,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "source_sha256": digests(directory),
        },
    )
    sequences = encode(artifact, texts)
    artifact, errors = make_graphs(artifact, network, texts, sequences, asked, progress)
    return finish(artifact, texts.labels, sequences, errors, overwrite, progress)


def network_facts(network: PackedTransformer) -> dict[str, Any]:
    """What a manifest says of a network."""
    return {
        "d_model": network.d_model,
        "layers": network.norms,
        "unobserved": [Unobserved(name=name, reason=reason) for name, reason in network.unobserved],
        "opset": OPSET,
    }


def make_graphs(
    artifact: Artifact,
    network: PackedTransformer,
    texts: Texts,
    sequences: Sequence[Tokens],
    asked: Asked,
    progress: Progress,
    others: Sequence[Tokens] | None = None,
) -> tuple[Artifact, dict[str, float]]:
    """`artifact` with the served and the deep graph, canary and plan, verified; the errors that were met.

    Args:
        others: as in `lower_adopted`.
    """
    ordered, module = sorted(sequences, key=len), DeepTransformer(network)
    both, adds = to_both(module, pack([*ordered[:3], *ordered[-2:]], pooling=network.pooling))
    artifact.files[MODEL] = only(network.outputs, both).SerializeToString()
    artifact = with_manifest(artifact, layers=with_adds(artifact.manifest.layers, adds))
    artifact, errors = complete(artifact, network, sequences)
    artifact.files[DEEP] = deep_graph(both, artifact.files[MODEL])
    deep = DeepGraph(artifact, Encoder(artifact))
    errors["deep"] = verify_deep(deep, module, adds, probes_of(sequences))

    def lower(kind: LowPrecision) -> tuple[Artifact, dict[str, float]]:
        least = asked.cosines(kind, artifact.manifest.task)
        lowered, met = make_lower(artifact, kind, network, texts, sequences, progress, least, others)
        lowered.files[DEEP] = deep_graph(lower_deep(both, artifact, kind, sequences, others), lowered.files[MODEL])
        met["deep"] = difference(DeepGraph(lowered, Encoder(lowered)), probes_of(sequences))
        return lowered, met

    return choose((artifact, errors), asked, lower)


def complete(
    artifact: Artifact, network: PackedTransformer, sequences: Sequence[Tokens]
) -> tuple[Artifact, dict[str, float]]:
    """`artifact`, which has a graph, with canary and plan; the graph verified against PyTorch in float64."""
    probes, canary, reference = probes_of(sequences), canary_probes(sequences), NetworkReference(network)
    artifact.files[CANARY] = make_canary(canary, reference.run(canary))
    artifact = with_plan(artifact, probes)
    return artifact, verify(Encoder(artifact), reference, probes)


def make_lower(
    artifact: Artifact,
    kind: LowPrecision,
    network: PackedTransformer,
    texts: Texts,
    sequences: Sequence[Tokens],
    progress: Progress,
    least: Cosines | None = None,
    others: Sequence[Tokens] | None = None,
) -> tuple[Artifact, dict[str, float]]:
    """`artifact`, verified in float32, with a graph, canary and plan of lower precision, verified again."""
    artifact = lower_adopted(artifact, kind, texts, sequences, progress, least, others)
    encoder, reference, probes = Encoder(artifact), NetworkReference(network), probes_of(sequences)
    errors = verify(encoder, reference, probes, kind, least)
    few = probes[:FEW]
    found, expected = run_together(encoder, few).norm_statistics, reference.run(few).norm_statistics
    return with_layer_errors(artifact, found, expected), errors
