"""`addnorm adopt DIR`: from anybody's encoder to a verified artifact, with a baseline of the user's own texts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from export.adopt.baseline import Progress
from export.adopt.directory.packed import PackedTransformer, load
from export.adopt.directory.reference import NetworkReference
from export.adopt.directory.source import read_directory
from export.adopt.parity import verify
from export.adopt.texts import Texts
from export.adopt.writing import (
    Adopted,
    begin,
    canary_probes,
    check_pairs,
    check_target,
    encode,
    finish,
    make_canary,
    probes_of,
)
from export.graph import OPSET, to_onnx
from export.timing import with_plan
from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.manifest import CANARY, MODEL, Unobserved

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")


def adopt_directory(
    directory: Path,
    texts: Texts,
    target: Path,
    pooling: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Adopted:
    """Adopts a Hugging Face or sentence-transformers directory as the artifact `target`, MODELS/NAME/VERSION.

    Args:
        texts: what normal traffic looks like.
        pooling: of an embedding model whose directory does not say it.

    Raises:
        ExportError, DataError: the directory or the texts cannot be used, or the graph does not agree with PyTorch.
        ArtifactError: the artifact exists already or cannot be written.
    """
    check_target(target, overwrite)
    source = read_directory(directory, pooling)
    check_pairs(source, texts)
    network = load(source)
    artifact = begin(
        source,
        texts,
        target,
        PACKAGES,
        d_model=network.d_model,
        layers=network.norms,
        unobserved=[Unobserved(name=name, reason=reason) for name, reason in network.unobserved],
        opset=OPSET,
        training={
            "adopted_from": directory.resolve().name,
            "architecture": source.model_type,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "source_sha256": digests(directory),
        },
    )
    sequences = encode(artifact, texts)
    artifact, errors = make_graph(artifact, network, sequences)
    return finish(artifact, texts, sequences, errors, overwrite, progress)


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of what may have been read, by its path in the directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def make_graph(
    artifact: Artifact, network: PackedTransformer, sequences: Sequence[Tokens]
) -> tuple[Artifact, dict[str, float]]:
    """`artifact` with its graph, canary and plan, verified against PyTorch in float64."""
    ordered, probes, canary = sorted(sequences, key=len), probes_of(sequences), canary_probes(sequences)
    example = pack([*ordered[:3], *ordered[-2:]], pooling=network.pooling)
    artifact.files[MODEL] = to_onnx(network, example).SerializeToString()
    reference = NetworkReference(network)
    artifact.files[CANARY] = make_canary(canary, reference.run(canary))
    artifact = with_plan(artifact, probes)
    return artifact, verify(Encoder(artifact), reference, probes)
