"""`python -m tests.export.adopt.onnx_file.table`: docs/adopt.md's rows of ONNX files, of the tests' own networks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from export.adopt.writing import Adopted
from tests.export.adopt.norms.exports import exported, feeds
from tests.export.adopt.norms.graphs import adopt as expose
from tests.export.adopt.norms.test_exports import CHANGED, PLAIN
from tests.export.adopt.onnx_file.files import save
from tests.export.adopt.onnx_file.test_adopter import adopt


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """What each file is, and its content."""
    for family, opset, dynamo in PLAIN:
        yield f"{family} at opset {opset}{', dynamo' * dynamo}", exported(family, opset, dynamo)
    for name, (family, opset, change, *_) in CHANGED.items():
        yield f"{family} at opset {opset}, {name}", change(exported(family, opset), folder)


def row(name: str, content: bytes, folder: Path) -> str:
    """A file as it is adopted: how its norms are written, and the largest errors of each kind."""
    written = Counter(norm.written for norm in expose(onnx.load_from_string(content), feeds()).norms)
    adopted: Adopted = adopt(save(folder, content))
    answer = "mean_cosine" if "mean_cosine" in adopted.errors else "embedding"
    kinds = (answer, "packed_against_alone", "norm_statistics")
    errors = " | ".join(f"{adopted.errors[kind]:.0e}" for kind in kinds)
    norms = ", ".join(f"{count} {kind}" for kind, count in written.items())
    return f"| {name} | {norms} | {'1 - cosine ' if answer == 'mean_cosine' else ''}{errors} |"


def main() -> None:
    print("| file | norms are | embedding | together against alone | statistics |\n|---|---|---|---|---|")
    with TemporaryDirectory() as place:
        for number, (name, content) in enumerate(files(Path(place))):
            print(row(name, content, Path(place) / str(number)), flush=True)


if __name__ == "__main__":
    main()
