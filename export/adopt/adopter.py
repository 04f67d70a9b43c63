"""`addnorm adopt`: from anybody's encoder to a verified artifact, with a baseline of the user's own texts."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from export.adopt.baseline import Progress, fit_baseline, run_all
from export.adopt.directory import Source, read_directory
from export.adopt.packed import PackedTransformer, load
from export.adopt.parity import Reference, verify
from export.adopt.texts import Texts
from export.graph import OPSET, to_onnx
from export.timing import with_plan
from runtime.artifact import Artifact, write_artifact
from runtime.errors import ArtifactError, DataError, InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE, CANARY, MODEL, TOKENIZER, Manifest, TextInputs, Unobserved

PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tokenizers")
PROBES = 64  # texts that parity and speed are measured with


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it.

    Attributes:
        errors: the largest error of each kind between graph and PyTorch in float64.
        accuracy: share of the labelled texts that the model labels so; None where there are no labels.
    """

    artifact: Artifact
    errors: dict[str, float]
    accuracy: float | None


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
    if target.exists() and not overwrite:
        raise ArtifactError(f"{target} exists already: choose another version, or pass --overwrite.")
    source = read_directory(directory, pooling)
    check_pairs(source, texts)
    network = load(source)
    artifact = Artifact(target, describe(directory, source, network, target, texts), {})
    artifact.files[TOKENIZER] = source.tokenizer.to_str().encode()
    sequences = encode(artifact, texts)
    artifact, errors = make_graph(artifact, network, sequences)
    rows = run_all(Encoder(artifact), sequences, progress)
    artifact, baseline = fit_baseline(artifact, rows)
    measured = accuracy(artifact.manifest, texts, rows)
    facts = artifact.manifest.training | {"texts": len(sequences), "parity": errors, "accuracy": measured}
    manifest = artifact.manifest.model_copy(update={"training": facts})
    files = artifact.files | {BASELINE: baseline.to_json()}
    return Adopted(write_artifact(target, manifest, files, overwrite), errors, measured)


def check_pairs(source: Source, texts: Texts) -> None:
    if source.task == "rerank" and not texts.pairs:
        raise DataError("A reranker reads pairs of texts: name the column of the second text with --text-pair.")
    if source.task == "embedding" and texts.pairs:
        raise DataError("An embedding model reads single texts: leave --text-pair out.")


def describe(directory: Path, source: Source, network: PackedTransformer, target: Path, texts: Texts) -> Manifest:
    return Manifest(
        name=target.parent.name,
        version=target.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=source.task,
        labels=source.labels if source.task == "classification" else [],
        activation=source.activation,
        normalize=source.normalize,
        inputs=TextInputs(
            max_tokens=source.max_tokens,
            special_tokens=True,
            pairs=texts.pairs,
            type_ids=source.type_ids,
            vocabulary=source.vocab_size,
            pooling=source.pooling,
            prompts={} if texts.pairs else source.prompts,
            default_prompt=None if texts.pairs else source.default_prompt,
        ),
        d_model=network.d_model,
        layers=network.norms,
        unobserved=[Unobserved(name=name, reason=reason) for name, reason in network.unobserved],
        opset=OPSET,
        producer={package: version(package) for package in PACKAGES},
        training={
            "adopted_from": directory.resolve().name,
            "architecture": source.model_type,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "source_sha256": digests(directory),
        },
        files={},
    )


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of what may have been read, by its path in the directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def encode(artifact: Artifact, texts: Texts) -> list[Tokens]:
    try:
        return [item.tokens for item in make_input_encoder(artifact).encode(texts.inputs)]
    except InvalidInput as error:
        raise DataError(f"The baseline's {str(error).removesuffix('.')} (counted from 0).") from error


def make_graph(
    artifact: Artifact, network: PackedTransformer, sequences: Sequence[Tokens]
) -> tuple[Artifact, dict[str, float]]:
    """`artifact` with its graph, canary and plan, verified against PyTorch in float64."""
    assert isinstance(artifact.manifest.inputs, TextInputs)
    pooling = artifact.manifest.inputs.pooling
    longest = sorted(sequences, key=len)
    probes = [*sequences[:PROBES], longest[0], longest[-1]]
    example = pack([*longest[:3], *longest[-2:]], pooling=pooling)
    artifact.files[MODEL] = to_onnx(network, example).SerializeToString()
    reference = Reference(network)
    artifact.files[CANARY] = make_canary(reference, [*longest[:2], *sequences[:2]])
    artifact = with_plan(artifact, probes)
    return artifact, verify(Encoder(artifact), reference, probes)


def make_canary(reference: Reference, sequences: Sequence[Tokens]) -> bytes:
    """A few of the texts, with PyTorch's float64 answers for them."""
    expected = reference.run(sequences)
    answers = {name: values.tolist() for name, values in expected.answers.items()}
    content = {"inputs": [sequence.tolist() for sequence in sequences], **answers}
    content["norm_statistics"] = expected.norm_statistics.tolist()
    return json.dumps(content, separators=(",", ":")).encode()


def accuracy(manifest: Manifest, texts: Texts, rows: Sequence[EncodedBatch]) -> float | None:
    """Share of the texts that the model labels as the file does."""
    if texts.labels is None or manifest.task != "classification":
        return None
    if unknown := sorted(set(texts.labels) - set(manifest.labels)):
        some = ", ".join(manifest.labels[:5]) + (", ..." if len(manifest.labels) > 5 else "")
        raise DataError(f"The model has no label {unknown[0]!r}, it has {some}: mend the texts, or leave --label out.")
    found = [manifest.labels[row.classes[0]] for row in rows]
    return float(np.mean([label == expected for label, expected in zip(found, texts.labels, strict=True)]))
