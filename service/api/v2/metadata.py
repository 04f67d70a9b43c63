"""What the server and its models say about themselves."""

from service import VERSION
from service.api.v2 import inputs, outputs
from service.api.v2.schemas import (
    BatchStatistics,
    Duration,
    InferenceStatistics,
    ModelConfig,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    TensorConfig,
    TensorMetadata,
)
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.inference_counts import BatchCounts, InferenceCounts, Inferences

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "normalization_statistics", "statistics"]
REPOSITORY = "model_repository"  # where models are loaded and unloaded on request
PLATFORM = "onnx_onnxv1"

NOTHING = Duration(count=0, ns=0)  # there is no cache of answers


def server_metadata(settings: Settings) -> ServerMetadata:
    extensions = sorted([*EXTENSIONS, REPOSITORY]) if settings.model_control == "explicit" else EXTENSIONS
    return ServerMetadata(name="addnorm", version=VERSION, extensions=extensions)


def model_metadata(models: ModelRegistry, engine: Engine) -> ModelMetadata:
    manifest = engine.manifest
    return ModelMetadata(
        name=manifest.name,
        versions=models.versions(manifest.name),
        platform=PLATFORM,
        inputs=inputs.expected(engine),
        outputs=outputs.described(manifest),
    )


def model_config(engine: Engine) -> ModelConfig:
    """The configuration, as Triton words it."""
    manifest = engine.manifest
    return ModelConfig(
        name=manifest.name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=engine.max_rows,
        input=[configured(tensor) for tensor in inputs.expected(engine)],
        output=[configured(output) for output in outputs.described(manifest)],
        dynamic_batching={},
        parameters={
            "further_inputs": {"string_value": inputs.further(engine)},
            "max_tokens": {"string_value": str(manifest.inputs.max_tokens)},
        },
    )


def configured(tensor: TensorMetadata) -> TensorConfig:
    return TensorConfig(
        name=tensor.name,
        data_type="TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}",
        dims=tensor.shape[1:],
    )


def model_statistics(engine: Engine, inferences: Inferences) -> ModelStatistics:
    """What all workers answered with the artifact that an engine runs."""
    counts = inferences.get(engine.manifest.digest, InferenceCounts())
    return ModelStatistics(
        name=engine.manifest.name,
        version=engine.manifest.version,
        last_inference=counts.last_ms,
        inference_count=counts.rows,
        execution_count=counts.executions,
        inference_stats=of_requests(counts),
        response_stats={},
        batch_stats=[of_batches(rows, batch) for rows, batch in sorted(counts.batches.items())],
        memory_usage=[],
    )


def of_requests(counts: InferenceCounts) -> InferenceStatistics:
    answered = counts.requests
    return InferenceStatistics(
        success=Duration(count=answered, ns=counts.total_ns),
        fail=Duration(count=counts.failed, ns=counts.failed_ns),
        queue=Duration(count=answered, ns=counts.queue_ns),
        compute_input=Duration(count=answered, ns=counts.input_ns),
        compute_infer=Duration(count=answered, ns=counts.infer_ns),
        compute_output=Duration(count=answered, ns=counts.output_ns),
        cache_hit=NOTHING,
        cache_miss=NOTHING,
    )


def of_batches(rows: int, batch: BatchCounts) -> BatchStatistics:
    return BatchStatistics(
        batch_size=rows,
        compute_input=Duration(count=batch.executions, ns=batch.pack_ns),
        compute_infer=Duration(count=batch.executions, ns=batch.infer_ns),
        compute_output=Duration(count=batch.executions, ns=batch.record_ns),
    )
