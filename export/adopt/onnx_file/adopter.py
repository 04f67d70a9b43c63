"""`addnorm adopt FILE.onnx`: a file that others exported, with its norms observed, served padded. Needs no torch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from export.adopt.adds import with_adds
from export.adopt.baseline import Progress
from export.adopt.lower import lower_adopted
from export.adopt.norms.expose import expose, exposed_norms
from export.adopt.norms.find import find_norms
from export.adopt.norms.norm import Norm
from export.adopt.norms.norm import Unobserved as UnobservedNorm
from export.adopt.norms.outputs import Output
from export.adopt.norms.tracing import placement_of
from export.adopt.norms.verify import precision_of
from export.adopt.norms.verify import verify as verify_norms
from export.adopt.onnx_file.deep import Watched, verify_deep, watch
from export.adopt.onnx_file.graph import GraphFile
from export.adopt.onnx_file.reference import FileReference
from export.adopt.onnx_file.signature import deep_content, last_norm_output, to_served
from export.adopt.onnx_file.source import Hints, Source, read_source
from export.adopt.parity import verify
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
from export.precision.choice import EXACT, Asked, choose
from export.timing import with_manifest, with_plan
from runtime.artifact import Artifact, check_target
from runtime.errors import ArtifactError, ExportError
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder, first_line
from runtime.graph.packing import Tokens, like_lengths, pad
from runtime.manifest import CANARY, DEEP, MODEL, NO_DEEP, NormLayer, Unobserved, sha256
from runtime.precision import LowPrecision, Precision

PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "tokenizers")


def adopt_file(
    path: Path,
    texts: Texts,
    target: Path,
    hints: Hints | None = None,
    overwrite: bool = False,
    progress: Progress = lambda _done, _of: None,
    asked: Asked = EXACT,
) -> Adopted:
    """Adopts an ONNX file as the artifact `target`, MODELS/NAME/VERSION.

    Args:
        texts: what normal traffic looks like.
        hints: what is not to be found in the file or beside it.
        asked: fp32, which leaves the file's own precision; or bf16 or auto, of a file in fp32.

    Raises:
        ExportError, DataError: the file or the texts cannot be used, or the graph does not agree with the file.
        ArtifactError: the artifact exists already or cannot be written.
    """
    check_target(target, overwrite)
    source = read_source(path, hints or Hints())
    check_pairs(source, texts)
    check_labels(texts, source.task)
    model, norms, unobserved, outputs = observed(source.file)
    if (precision := precision_of(source.file.content)) != "fp32" and asked.precision == "bf16":
        raise ExportError(f"{path} is in {precision}, and bf16 is made of fp32: leave --precision out.")
    artifact = begin_file(source, texts, target, model, norms, unobserved)
    sequences = encode(artifact, texts)
    probes, canary = probes_of(sequences), canary_probes(sequences)
    groups = [[probes[place] for place in group] for group in like_lengths([len(probe) for probe in probes])]
    batches = [source.file.feeds(pad(group), source.type_ids) for group in [canary, *groups]]
    agreement = verify_norms(source.file.content, ir.to_proto(model).SerializeToString(), norms, batches)
    tokens = source.output if source.task == "embedding" else str(last_norm_output(model).name)
    reference = FileReference(model, source, tokens)
    exact = make_graphs(artifact, source, model, watch(model, norms, outputs), sequences, reference)

    def lower(kind: LowPrecision) -> tuple[Artifact, dict[str, float]]:
        least = asked.cosines(kind, source.task)
        lowered = lower_adopted(exact[0], kind, texts, sequences, progress, least)
        encoder = Encoder(lowered)
        DeepGraph.of(lowered, encoder)  # compares itself with the encoder
        return lowered, verify(encoder, reference, probes, kind, least)

    artifact, errors = choose(exact, asked, lower, ("bf16",) if precision == "fp32" else ())
    errors["norm_statistics"] = max(agreement.statistics.values())
    return finish(artifact, texts.labels, sequences, errors, overwrite, progress)


def begin_file(
    source: Source,
    texts: Texts,
    target: Path,
    model: ir.Model,
    norms: Sequence[Norm],
    unobserved: Sequence[UnobservedNorm],
) -> Artifact:
    """An artifact with what its manifest says of the file, and without graphs."""
    precision, path = precision_of(source.file.content), source.file.path
    return begin(
        source,
        texts,
        target,
        PACKAGES,
        graph="padded",
        d_model=source.width if source.task == "embedding" else norms[-1].d_model,
        layers=[to_layer(norm, node) for norm, node in zip(norms, exposed_norms(model), strict=True)],
        unobserved=[Unobserved(name=norm.name, reason=norm.reason) for norm in unobserved],
        opset=source.file.opset,
        precision=None if precision == "fp32" else Precision(kind=precision),
        training={
            "adopted_from": path.name,
            "architecture": source.config.get("model_type", "unknown"),
            "parameters": source.file.parameters,
            "source_sha256": {file.name: sha256(file.read_bytes()) for file in (path, *source.file.weights)},
        },
    )


def observed(file: GraphFile) -> tuple[ir.Model, list[Norm], list[UnobservedNorm], list[Output]]:
    """The file's model with its statistics exposed, its norms, those that are left out, and what the norms give."""
    model = file.parse()
    norms, unobserved = find_norms(model, file.feeds(pad(file.varied)))
    return model, norms, unobserved, expose(model, norms, unobserved)


def to_layer(norm: Norm, node: ir.Node) -> NormLayer:
    """A norm as the manifest lists it."""
    placement = placement_of(node.inputs[0])
    return NormLayer(name=norm.name, kind=norm.kind, placement=placement, d_model=norm.d_model, eps=norm.eps)


def make_graphs(
    artifact: Artifact,
    source: Source,
    model: ir.Model,
    watched: list[Watched] | str,
    sequences: Sequence[Tokens],
    reference: FileReference,
) -> tuple[Artifact, dict[str, float]]:
    """`artifact` with its graph, canary and plan, verified against the file; and with its deep graph.

    Args:
        watched: the norms, for the deep graph, or why there can be none.
    """
    canary, probes = canary_probes(sequences), probes_of(sequences)
    artifact.files[CANARY] = make_canary(canary, reference.run(canary))
    norms, reason = ([], watched) if isinstance(watched, str) else (watched, "")
    graphs = to_served(model, source, reference.tokens, norms)
    artifact.files[MODEL] = graphs.served
    try:
        artifact = with_plan(artifact, probes)
    except ArtifactError as error:  # it runs the canary, in one batch
        raise ExportError(why_not_served(source.file.path, error, artifact)) from error
    encoder = Encoder(artifact)
    errors = verify(encoder, reference, probes, artifact.manifest.precision_kind)
    if not reason:
        deep = with_manifest(artifact, layers=with_adds(artifact.manifest.layers, graphs.adds))
        try:
            deep = replace(deep, files=artifact.files | {DEEP: deep_content(graphs)})
            errors["deep"] = verify_deep(DeepGraph(deep, encoder), norms, graphs.adds, probes)
            return deep, errors
        except ExportError as error:
            reason = str(error)
        except Exception as error:  # whatever a foreign graph is like, it can be served without a deep one
            why = first_line(error).removesuffix(".")
            reason = f"The graph that gives out what enters and leaves the norms does not run ({why})."
    return without_deep(artifact, reason), errors


def without_deep(artifact: Artifact, reason: str) -> Artifact:
    """`artifact`, which says why it has no deep graph."""
    return with_manifest(artifact, training=artifact.manifest.training | {NO_DEEP: reason})


def why_not_served(path: Path, error: ArtifactError, artifact: Artifact) -> str:
    """What is wrong with a graph that loads as the file does, and is not what the file is, in a sentence."""
    why, _, _ = str(error).replace(str(artifact.path / MODEL), "the served graph").rpartition(": ")
    if error.__cause__ is not None:  # it does not load or run
        return f"{path} cannot be served ({why}): export it again."
    return (
        f"{path} answers texts that run together in another way than each alone ({why}): export it again, with an "
        "attention mask that keeps padding out."
    )
