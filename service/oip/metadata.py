"""What the server and its models say about themselves."""

from service import VERSION
from service.engine import Engine
from service.models import Models
from service.oip import inputs, outputs
from service.oip.schemas import ModelConfig, ModelMetadata, ServerMetadata, TensorConfig, TensorMetadata

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "normalization_statistics", "statistics"]
PLATFORM = "onnx_onnxv1"
TRITON_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}


def server_metadata() -> ServerMetadata:
    return ServerMetadata(name="addnorm", version=VERSION, extensions=EXTENSIONS)


def model_metadata(models: Models, engine: Engine) -> ModelMetadata:
    manifest = engine.manifest
    return ModelMetadata(
        name=manifest.name,
        versions=models.versions(manifest.name),
        platform=PLATFORM,
        inputs=[inputs.described(engine)],
        outputs=outputs.described(manifest),
    )


def model_config(engine: Engine) -> ModelConfig:
    """The configuration, as Triton words it."""
    manifest = engine.manifest
    further = inputs.TOKENIZED if manifest.inputs.kind == "text" else inputs.PADDED
    return ModelConfig(
        name=manifest.name,
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=engine.max_rows,
        input=[configured(inputs.described(engine))],
        output=[configured(output) for output in outputs.described(manifest)],
        dynamic_batching={},
        parameters={
            "further_inputs": {"string_value": further},
            "max_tokens": {"string_value": str(manifest.inputs.max_tokens)},
        },
    )


def configured(tensor: TensorMetadata) -> TensorConfig:
    return TensorConfig(name=tensor.name, data_type=TRITON_TYPES[tensor.datatype], dims=tensor.shape[1:])
