"""The messages of the Open Inference Protocol over gRPC, in Triton's form: a descriptor instead of generated code.

Names, numbers and types of the fields are those of Triton's public grpc_service.proto and model_config.proto; a test
compares them with what `tritonclient` brings. A field that this service neither reads nor writes may be missing.
"""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

PACKAGE, STATISTICS_PACKAGE = "inference", "addnorm.v1"

# A line is a message: its name, and its fields as type, name and number. `?` is one of a choice, `*` is repeated, `%`
# is a map from strings, and a name with a dot lies inside of the message before the dot.
MESSAGES = """
ServerLiveRequest
ServerLiveResponse: bool live 1
ServerReadyRequest
ServerReadyResponse: bool ready 1
ModelReadyRequest: string name 1, string version 2
ModelReadyResponse: bool ready 1
ServerMetadataRequest
ServerMetadataResponse: string name 1, string version 2, *string extensions 3
ModelMetadataRequest: string name 1, string version 2
ModelMetadataResponse: string name 1, *string versions 2, string platform 3, \
*ModelMetadataResponse.TensorMetadata inputs 4, *ModelMetadataResponse.TensorMetadata outputs 5
ModelMetadataResponse.TensorMetadata: string name 1, string datatype 2, *int64 shape 3
InferParameter: ?bool bool_param 1, ?int64 int64_param 2, ?string string_param 3, ?double double_param 4, \
?uint64 uint64_param 5
InferTensorContents: *bool bool_contents 1, *int32 int_contents 2, *int64 int64_contents 3, *uint32 uint_contents 4, \
*uint64 uint64_contents 5, *float fp32_contents 6, *double fp64_contents 7, *bytes bytes_contents 8
ModelInferRequest: string model_name 1, string model_version 2, string id 3, %InferParameter parameters 4, \
*ModelInferRequest.InferInputTensor inputs 5, *ModelInferRequest.InferRequestedOutputTensor outputs 6, \
*bytes raw_input_contents 7
ModelInferRequest.InferInputTensor: string name 1, string datatype 2, *int64 shape 3, %InferParameter parameters 4, \
InferTensorContents contents 5
ModelInferRequest.InferRequestedOutputTensor: string name 1, %InferParameter parameters 2
ModelInferResponse: string model_name 1, string model_version 2, string id 3, %InferParameter parameters 4, \
*ModelInferResponse.InferOutputTensor outputs 5, *bytes raw_output_contents 6
ModelInferResponse.InferOutputTensor: string name 1, string datatype 2, *int64 shape 3, %InferParameter parameters 4, \
InferTensorContents contents 5
ModelStreamInferResponse: string error_message 1, ModelInferResponse infer_response 2
ModelConfigRequest: string name 1, string version 2
ModelConfigResponse: ModelConfig config 1
ModelConfig: string name 1, string platform 2, int32 max_batch_size 4, *ModelInput input 5, *ModelOutput output 6, \
ModelDynamicBatching dynamic_batching 11, %ModelParameter parameters 14, string backend 17
ModelInput: string name 1, DataType data_type 2, *int64 dims 4
ModelOutput: string name 1, DataType data_type 2, *int64 dims 3
ModelDynamicBatching: *int32 preferred_batch_size 1, uint64 max_queue_delay_microseconds 2
ModelParameter: string string_value 1
ModelStatisticsRequest: string name 1, string version 2
StatisticDuration: uint64 count 1, uint64 ns 2
InferStatistics: StatisticDuration success 1, StatisticDuration fail 2, StatisticDuration queue 3, \
StatisticDuration compute_input 4, StatisticDuration compute_infer 5, StatisticDuration compute_output 6, \
StatisticDuration cache_hit 7, StatisticDuration cache_miss 8
InferBatchStatistics: uint64 batch_size 1, StatisticDuration compute_input 2, StatisticDuration compute_infer 3, \
StatisticDuration compute_output 4
ModelStatistics: string name 1, string version 2, uint64 last_inference 3, uint64 inference_count 4, \
uint64 execution_count 5, InferStatistics inference_stats 6, *InferBatchStatistics batch_stats 7
ModelStatisticsResponse: *ModelStatistics model_stats 1
ModelRepositoryParameter: ?bool bool_param 1, ?int64 int64_param 2, ?string string_param 3, ?bytes bytes_param 4
RepositoryIndexRequest: string repository_name 1, bool ready 2
RepositoryIndexResponse: *RepositoryIndexResponse.ModelIndex models 1
RepositoryIndexResponse.ModelIndex: string name 1, string version 2, string state 3, string reason 4
RepositoryModelLoadRequest: string repository_name 1, string model_name 2, %ModelRepositoryParameter parameters 3
RepositoryModelLoadResponse
RepositoryModelUnloadRequest: string repository_name 1, string model_name 2, %ModelRepositoryParameter parameters 3
RepositoryModelUnloadResponse
"""
DATA_TYPES = tuple(  # TYPE_ and these, numbered from 0
    "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16".split()  # noqa: SIM905
)
STATISTICS_MESSAGES = """
NormStatsRequest: string model_name 1, string model_version 2, string layer 3, string window 4, string from 5, \
string to 6
"""
FIELD = re.compile(r"(?P<kind>[?*%]?)(?P<type>[\w.]+) (?P<name>\w+) (?P<number>\d+)")
OPTIONAL, REPEATED = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
CHOICE = "parameter_choice"


def parse_messages(table: str, package: str) -> dict[str, DescriptorProto]:
    """The messages of a table by name; a field's type is a basic one, or a message of the same package."""
    found: dict[str, DescriptorProto] = {}
    for line in table.replace("\\\n", "").split("\n"):
        if not line:
            continue
        name, _, fields = line.partition(":")
        parent, _, short = name.rpartition(".")
        message = found[parent].nested_type.add() if parent else DescriptorProto()
        message.name = short
        found[name] = message
        for field in fields.split(",") if fields else ():
            add_field(message, f".{package}.{name}", field.strip(), package)
    return found


def add_field(message: DescriptorProto, path: str, text: str, package: str) -> None:
    """Adds a field; `path` is the message's own full name."""
    match = FIELD.fullmatch(text)
    assert match is not None, text
    kind, name, number = match["kind"], match["name"], int(match["number"])
    field = message.field.add(name=name, number=number, label=REPEATED if kind in ("*", "%") else OPTIONAL)
    if kind == "%":
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        set_type(entry.field.add(name="key", number=1, label=OPTIONAL), "string", package)
        set_type(entry.field.add(name="value", number=2, label=OPTIONAL), match["type"], package)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{path}.{entry.name}"
        return
    if kind == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name=CHOICE)
        field.oneof_index = 0
    set_type(field, match["type"], package)


def set_type(field: FieldDescriptorProto, name: str, package: str) -> None:
    basic = getattr(FieldDescriptorProto, f"TYPE_{name.upper()}", None)
    if basic is not None:
        field.type = basic
        return
    field.type = FieldDescriptorProto.TYPE_ENUM if name == "DataType" else FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".{package}.{name}"


def describe(file: FileDescriptorProto, table: str) -> None:
    """Adds the messages of a table to a file."""
    file.syntax = "proto3"
    messages = parse_messages(table, file.package)
    file.message_type.extend(message for name, message in messages.items() if "." not in name)


def add_service(file: FileDescriptorProto, name: str, methods: dict[str, tuple[str, str, bool]]) -> None:
    """Adds a service: of each method what it takes and gives, by full name, and whether both are streams."""
    service = file.service.add(name=name)
    for method, (given, answer, streams) in methods.items():
        each = service.method.add(name=method, input_type=f".{given}", output_type=f".{answer}")
        each.client_streaming = each.server_streaming = streams


NOT_SERVED = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip
STREAM = "ModelStreamInfer"


def methods_of(table: str) -> Iterator[tuple[str, tuple[str, str, bool]]]:
    """The methods that the requests in a table are of."""
    for name in re.findall(r"^(\w+)Request\b", table, re.M):
        yield name, (f"{PACKAGE}.{name}Request", f"{PACKAGE}.{name}Response", False)
    yield STREAM, (f"{PACKAGE}.ModelInferRequest", f"{PACKAGE}.ModelStreamInferResponse", True)


def make_pool() -> DescriptorPool:
    """Both services with their messages, apart from what other packages of the process may have described."""
    pool = DescriptorPool()
    for known in (struct_pb2, health_pb2, reflection_pb2):  # the latter two for clients that ask reflection
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = FileDescriptorProto(name="grpc_service.proto", package=PACKAGE)
    describe(file, MESSAGES)
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)
    add_service(file, "GRPCInferenceService", dict(methods_of(MESSAGES)))
    pool.Add(file)
    own = FileDescriptorProto(name="addnorm/v1/norm_stats.proto", package=STATISTICS_PACKAGE)
    own.dependency.append("google/protobuf/struct.proto")
    describe(own, STATISTICS_MESSAGES)
    answer = (f"{STATISTICS_PACKAGE}.NormStatsRequest", "google.protobuf.Struct", False)
    add_service(own, "NormStatistics", {"Get": answer})
    pool.Add(own)
    return pool


POOL = make_pool()
SERVICES = (f"{PACKAGE}.GRPCInferenceService", f"{STATISTICS_PACKAGE}.NormStatistics")


def message(name: str) -> Any:
    """The class of a message, by its full name."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


InferRequest, InferResponse, StreamResponse = (
    message(f"{PACKAGE}.{name}") for name in ("ModelInferRequest", "ModelInferResponse", "ModelStreamInferResponse")
)
