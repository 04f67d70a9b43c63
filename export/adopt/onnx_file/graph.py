"""An encoder's ONNX file as others exported it: which of its inputs is what, what it gives, and running it as it is."""

# R rows, S tokens, D features

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from export.adopt.norms.probing import describe, load
from export.adopt.norms.tracing import origin
from export.adopt.onnx_file.content import read_content
from runtime.errors import ExportError
from runtime.graph.encoder import first_line
from runtime.graph.packing import PackedBatch, pad

# what others call the inputs that are known here
NAMES = {
    "input_ids": ("input_ids", "input_word_ids"),
    "attention_mask": ("attention_mask", "input_mask"),
    "type_ids": ("token_type_ids", "input_type_ids", "segment_ids"),
    "position_ids": ("position_ids",),
}
ROLES = {name: role for role, names in NAMES.items() for name in names}
DTYPES = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(float)": "float32", "tensor(bool)": "bool"}
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
TOKEN = 3  # of most vocabularies a token that is not padding
VARIED = (8, 3)  # texts, and tokens of each
EXAMPLE = [np.full(length, TOKEN, dtype=np.int64) for length in (2, 3)]  # shows the shapes of what a file computes


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the file; what it holds is told by its name."""

    name: str
    dtype: str


class OnnxFile:
    """A file that others exported.

    Attributes:
        content: the file in one form (onnx_file/content.py), with all weights inside.
        weights: the files beside it that it took weights from.
        session: of the file as it is.

    Raises:
        ExportError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content, self.weights = read_content(path)
        self.session = open_file(path, self.content)

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """Nobody changes it."""
        return onnx.load_from_string(self.content)

    def parse(self) -> ir.Model:
        """A model that may be changed."""
        try:
            return ir.from_proto(self.proto)
        except Exception as error:  # of onnx_ir, which is stricter than ONNX Runtime
            raise ExportError(f"{self.path} cannot be read ({first_line(error)[:300]}): export it again.") from None

    @property
    def opset(self) -> int:
        return next((each.version for each in self.proto.opset_import if not each.domain), 0)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(tensor.dims)) for tensor in self.proto.graph.initializer)


class GraphFile(OnnxFile):
    """A file that takes texts as token ids.

    Attributes:
        inputs: by what they hold, a key of NAMES.
        shapes: of the outputs of floats, [R, D] or [R, S, D], for R, S = 2, 3.

    Raises:
        ExportError: it cannot be read or run, or takes something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.inputs = read_inputs(path, self.session)
        found, shorter = self.run(pad(EXAMPLE)), self.run(pad(EXAMPLE[:1]))
        floats = [output.name for output in self.session.get_outputs() if output.type in FLOATS]
        fixed = [name for name in floats if found[name].shape[-1:] == shorter[name].shape[-1:]]  # not [R, S]
        self.shapes = {name: found[name].shape for name in fixed if found[name].shape[:-1] in ((2,), (2, 3))}

    @cached_property
    def vocabulary(self) -> int | None:
        """Token ids that the file knows: the rows of its table of word vectors; None where that is not found."""
        model = self.parse()
        ids = next(value for value in model.graph.inputs if value.name == self.inputs["input_ids"].name)
        for node in model.graph.all_nodes():
            place = {"Gather": (1, 0), "EmbedLayerNormalization": (0, 2)}.get(node.op_type)
            if place is None or origin(node.inputs[place[0]]) is not ids:
                continue
            table = origin(node.inputs[place[1]])
            assert table is not None
            if (tensor := ir.convenience.get_const_tensor(table)) is not None:
                return int(tensor.shape.numpy()[0])
            (computed,) = describe(model, [table], self.feeds(pad(EXAMPLE)))  # of weights that are kept in few bits
            return int(computed.dimensions[0] or 0)
        return None

    @cached_property
    def varied(self) -> list[NDArray[np.int64]]:
        """Texts of tokens by chance, all of one length."""
        return list(np.random.default_rng(0).integers(0, self.vocabulary or TOKEN + 1, VARIED))

    def feeds(self, batch: PackedBatch, types: bool = False) -> dict[str, NDArray[Any]]:
        """The inputs by the file's names.

        Args:
            batch: one row for each text.
            types: whether its values are token ids and their types.
        """
        ids = batch.values[..., 0] if types else batch.values
        values = {
            "input_ids": ids,
            "attention_mask": batch.segment_ids > 0,
            "type_ids": batch.values[..., 1] if types else np.zeros_like(ids),
            "position_ids": batch.position_ids,
        }
        return {given.name: values[role].astype(given.dtype) for role, given in self.inputs.items()}

    def run(self, batch: PackedBatch, types: bool = False) -> dict[str, NDArray[Any]]:
        """All outputs by name."""
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4  # what goes wrong is told in the exception, too
        names = [output.name for output in self.session.get_outputs()]
        try:
            return dict(zip(names, self.session.run(names, self.feeds(batch, types), quiet), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ExportError(f"{self.path} does not run on a batch of texts ({first_line(error)[:300]}).") from None

    def longest(self, most: int) -> int:
        """How many tokens a text may have, up to `most`: found by running such texts."""
        if self.reads(most):
            return most
        least = 1
        while least + 1 < most:  # it reads the one, and not the other
            middle = (least + most) // 2
            least, most = (middle, most) if self.reads(middle) else (least, middle)
        return least

    def reads(self, tokens: int) -> bool:
        try:
            self.run(pad([np.full(tokens, TOKEN, dtype=np.int64)]))
        except ExportError:
            return False
        return True


def open_file(path: Path, content: bytes) -> ort.InferenceSession:
    try:
        return load(content)
    except ExportError as error:
        why = str(error).splitlines()[0][:300]
        raise ExportError(f"{path} cannot be adopted ({why}): export it again, for ONNX Runtime alone.") from None


def read_inputs(path: Path, session: ort.InferenceSession) -> dict[str, Input]:
    """The inputs by what they hold, or raises ExportError."""
    found: dict[str, Input] = {}
    for given in session.get_inputs():
        role = ROLES.get(given.name.removesuffix(":0"))
        if role is None or given.type not in DTYPES:
            raise ExportError(
                f"{path} takes {given.name} ({given.type}), and only files that take {', '.join(NAMES)} "
                "can be adopted: export the encoder alone."
            )
        if role in found:
            raise ExportError(f"{path} takes both {found[role].name} and {given.name}, which are the same: rename one.")
        if fixed := [size for size in given.shape if isinstance(size, int)]:
            raise ExportError(
                f"{path} takes {given.name} of a fixed size ({fixed[0]}): export it with dynamic axes for batch and "
                "tokens."
            )
        found[role] = Input(given.name, DTYPES[given.type])
    if "input_ids" not in found:
        raise ExportError(f"{path} takes no token ids (input_ids): only encoders of texts can be adopted.")
    return found
