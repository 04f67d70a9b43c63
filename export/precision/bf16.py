"""A graph in bf16: the one of float32, which OpenVINO computes with products of bfloat16."""

from export.timing import with_manifest
from runtime.artifact import Artifact
from runtime.errors import ExportError
from runtime.graph.openvino_session import capabilities, version, why_not
from runtime.manifest import MODEL
from runtime.precision import Precision


def in_bf16(artifact: Artifact) -> Artifact:
    """`artifact`, a verified one in float32, to be run in bf16; its graph and its canary stay as they are.

    Raises:
        ExportError: there is no bf16 here, so that nothing can be measured.
    """
    if reason := why_not():
        raise ExportError(f"There is no bf16 here ({reason}): choose another precision. Nothing was written.")
    size = len(artifact.files[MODEL])
    precision = Precision(kind="bf16", size={"fp32": size, "bf16": size}, engine=version(), capabilities=capabilities())
    return with_manifest(artifact, precision=precision)
