"""An ONNX file that takes tensors: what it takes and gives, row by row, and running it as it is."""

# R rows

from pathlib import Path
from typing import Any, get_args

import onnxruntime as ort
from numpy.typing import NDArray

from export.adopt.norms.probing import Feeds
from export.adopt.onnx_file.graph import OnnxFile
from runtime.errors import ExportError
from runtime.graph.encoder import first_line
from runtime.manifest import Dtype, TensorSpec

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"} | {
    f"tensor({name})": name for name in get_args(Dtype) if name not in ("float32", "float64")
}


class TensorFile(OnnxFile):
    """A file whose inputs have their rows on the first axis.

    Attributes:
        inputs: what it takes.
        together: whether the axis of rows is free; else it is 1.

    Raises:
        ExportError: it cannot be read, or takes something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        given = self.session.get_inputs()
        if not given:
            raise ExportError(f"{path} takes no input: nothing to adopt.")
        self.inputs = [read_spec(path, item) for item in given]
        rows = {item.shape[0] if isinstance(item.shape[0], int) else None for item in given}
        if rows - {None, 1} or len(rows) > 1:
            sizes = ", ".join(f"{item.name} {item.shape[0]}" for item in given)
            raise ExportError(
                f"{path} takes a fixed number of rows ({sizes}): export it with a dynamic first axis, or one of 1."
            )
        self.together = rows == {None}

    @property
    def fixed(self) -> bool:
        """Whether all rows have the same shapes."""
        return all(size is not None for spec in self.inputs for size in spec.shape)

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """All outputs that are tensors, by name."""
        quiet = ort.RunOptions()
        quiet.log_severity_level = 4  # what goes wrong is told in the exception, too
        names = [output.name for output in self.session.get_outputs() if output.type in TYPES]
        if not names:
            raise ExportError(f"{self.path} gives no tensor of numbers: export it without what follows them.")
        try:
            return dict(zip(names, self.session.run(names, dict(feeds), quiet), strict=True))
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ExportError(
                f"{self.path} does not run on rows of the baseline ({first_line(error)[:300]})."
            ) from None

    def outputs(self, one: Feeds, two: Feeds) -> tuple[list[TensorSpec], list[str]]:
        """The outputs whose first axis is rows, and the names of the others.

        Args:
            one, two: inputs of one row and, where rows run together, of two.
        """
        first, second = self.run(one), self.run(two)
        declared = {output.name: output for output in self.session.get_outputs()}
        rows = len(next(iter(two.values())))
        kept, left = [], [name for name in declared if name not in first]
        for name, values in first.items():
            if values.shape[:1] != (1,) or second[name].shape[:1] != (rows,):
                left.append(name)
                continue
            said = declared[name].shape[1:]
            sizes = values.shape[1:] if self.fixed else [n if isinstance(n, int) else None for n in said]
            kept.append(TensorSpec(name=name, dtype=TYPES[declared[name].type], shape=list(sizes)))
        if not kept:
            raise ExportError(f"{self.path} gives nothing with rows on its first axis: export it with a batch axis.")
        return kept, left


def read_spec(path: Path, given: Any) -> TensorSpec:
    if given.type not in TYPES:
        raise ExportError(
            f"{path} takes {given.name} ({given.type}), and only tensors of {', '.join(get_args(Dtype))} "
            "can be served: put what makes them of it before the network."
        )
    if not given.shape:
        raise ExportError(f"{path} takes {given.name}, a single number without an axis of rows: make it a constant.")
    sizes = [size if isinstance(size, int) else None for size in given.shape[1:]]
    return TensorSpec(name=given.name, dtype=TYPES[given.type], shape=sizes)
