"""What adopting a network of tensors writes, and that it writes nothing where something is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from export.adopt.tensors.adopter import adopt_tensors
from export.adopt.tensors.answer import TensorHints, class_names
from export.adopt.tensors.norms import find_tensor_norms
from runtime.artifact import read_artifact
from runtime.errors import AddNormError, ArtifactError, DataError, ExportError
from runtime.manifest import TensorSpec
from tests.export.adopt.onnx_file.files import few_draws
from tests.export.adopt.tensors.networks import adopt, exported, rows_of

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING


def labels(folder: Path, *names: str) -> Path:
    (folder / "labels.txt").write_text("\n".join(names))
    return folder / "labels.txt"


def test_the_manifest_says_what_was_adopted(tmp_path: Path):
    adopted = adopt(tmp_path, "image", labels=labels(tmp_path, "a", "b", "c"))
    manifest = read_artifact(adopted.artifact.path).manifest
    assert (manifest.format, manifest.task, manifest.labels, manifest.opset) == (
        3,
        "classification",
        ["a", "b", "c"],
        17,
    )
    assert manifest.inputs.model_dump() == {
        "kind": "tensors",
        "tensors": [TensorSpec(name="image", dtype="float32", shape=[1, 8, 8]).model_dump()],
        "outputs": [TensorSpec(name="scores", dtype="float32", shape=[3]).model_dump()],
        "together": True,
    }
    first = manifest.layers[0]
    assert (first.name, first.unit, first.units, first.sampled, first.standardized) == ("bn1", "pixel", 64, 4, True)
    assert first.seen(40) == 40 and max(adopted.errors.values()) < 1e-5


def test_a_norm_of_whole_rows_counts_each_once(tmp_path: Path):
    final = adopt(tmp_path, "patches").artifact.manifest.layers[-1]
    assert (final.name, final.unit, final.units, final.sampled) == ("final", "sample", 1, 16)
    assert final.seen(160) == 10


def test_free_sizes_are_kept_free(tmp_path: Path):
    manifest = adopt(tmp_path, "series").artifact.manifest
    assert manifest.inputs.kind == "tensors" and manifest.inputs.tensors[0].shape == [None, 2]
    assert [layer.units for layer in manifest.layers] == [None, None]


def test_a_softmax_at_the_end_is_left_to_serving(tmp_path: Path):
    model = onnx.load_from_string(exported("table"))
    model.graph.node.append(make_node("Softmax", ["scores"], ["shares"], axis=-1))
    model.graph.output[0].name = "shares"
    hints = {"labels": labels(tmp_path, "a", "b", "c"), "label": "kind"}
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    rows = rows_of("table", 20)
    np.savez(tmp_path / "rows.npz", **rows, kind=np.arange(20) % 3)
    with few_draws():
        adopted = adopt_tensors(
            tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "a" / "1", TensorHints(**hints)
        )
    assert adopted.artifact.manifest.activation == "softmax" and adopted.accuracy is not None


def test_scores_are_not_taken_for_logits(tmp_path: Path):
    model = onnx.load_from_string(exported("table"))
    model.graph.node.append(make_node("HardSigmoid", ["scores"], ["shares"], alpha=5.0))
    model.graph.output[0].name = "shares"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "rows.npz", **rows_of("table", 20))
    hints = TensorHints(labels=labels(tmp_path, "a", "b", "c"))
    with pytest.raises(ExportError, match=r"net.onnx gives shares that look like probabilities"):
        adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "a" / "1", hints)


MEANS = [
    make_node("Mul", ["d", "d"], ["s"]),
    make_node("ReduceMean", ["s"], ["v"], axes=[-1]),
    make_node("ReduceMean", ["x"], ["m"], axes=[-1]),
]
ROOT = [make_node("Sqrt", ["e"], ["r"]), make_node("Div", ["d", "r"], ["n"]), make_node("Sin", ["n"], ["y"])]
ODD = {
    "centered": (
        [
            make_node("Sum", ["m", "m"], ["t"]),
            make_node("Mul", ["t", "half"], ["k"]),
            make_node("Sub", ["x", "k"], ["d"]),
        ],
        make_node("Add", ["v", "eps"], ["e"]),
        "what it normalizes was centered before",
    ),
    "unknown": (
        [make_node("Sub", ["x", "m"], ["d"])],
        make_node("Max", ["v", "eps"], ["e"]),
        "a way that is not known",
    ),
}


@pytest.mark.parametrize(("centering", "with_eps", "reason"), ODD.values(), ids=ODD)
def test_norms_that_are_written_otherwise_are_listed(centering: list[Any], with_eps: Any, reason: str):
    shape = ["rows", "steps", 4]
    x, y = (make_tensor_value_info(name, FLOAT, shape) for name in "xy")
    weights = [onnx.numpy_helper.from_array(np.float32(value), name) for name, value in (("half", 0.5), ("eps", 1e-5))]
    graph = make_graph([*centering, *MEANS, with_eps, *ROOT], "odd", [x], [y], weights)
    model = ir.from_proto(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8))
    rows = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    norms, (unobserved,) = find_tensor_norms(model, {"x": rows}, fixed=False)
    assert not norms and reason in unobserved.reason


def test_numbers_of_classes_are_their_names():
    assert class_names(["1", "0", "7"], ["a", "b"]) == ["b", "a", "7"]
    assert class_names(["1", "0"], ["0", "1"]) == ["1", "0"] and class_names(None, ["a"]) is None


def plain(*nodes: onnx.NodeProto, given: Any = None, output: Any = None) -> bytes:
    """A graph from x to y."""
    x = given or make_tensor_value_info("x", FLOAT, ["rows", 4])
    y = output or make_tensor_value_info("y", FLOAT, ["rows", 4])
    graph = make_graph(list(nodes), "plain", [x], [y])
    return make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8).SerializeToString()


RELU = make_node("Relu", ["x"], ["y"])
ACROSS = [
    make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
    make_node("Relu", ["turned"], ["y"]),
]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no file", "cannot be read"),
        (plain(RELU), "no norm that can be observed"),
        (plain(*ACROSS, output=make_tensor_value_info("y", FLOAT, [4, "rows"])), "rows on its first axis"),
        (plain(make_node("Identity", ["x"], ["y"]), given=make_tensor_value_info("x", STRING, ["rows"]),
               output=make_tensor_value_info("y", STRING, ["rows"])), "only tensors of"),
        (plain(RELU, given=make_tensor_value_info("x", FLOAT, [3, 4])), "fixed number of rows (x 3)"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_served_is_refused_in_a_sentence(content: bytes, words: str, tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(content)
    np.savez(tmp_path / "rows.npz", x=np.ones((12, 4), "f4"))
    with pytest.raises(ExportError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
        adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "a" / "1")
    assert "\n" not in str(caught.value) and not (tmp_path / "m").exists()


def bad(change: Any) -> dict[str, Any]:
    rows = rows_of("table", 12)["columns"]
    return {"columns": change(rows)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"other": np.ones((12, 4), "f4")}, "has no array 'columns', it has other"),
        (bad(lambda x: x[:, :3]), "shape [3] in each row, expected float32 [rows, 4]"),
        (bad(lambda x: np.where(x > 1, np.nan, x)), "NaN or infinite"),
        (bad(lambda x: x[:4]), "has 4 rows: expected 10 or more"),
        (bad(lambda x: x.astype("U")), "is <U"),
        (bad(lambda x: x.astype(object)), "cannot be read"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_a_sentence(arrays: dict[str, Any], words: str, tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(exported("table"))
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(DataError) as caught:
        adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "a" / "1")
    assert words in str(caught.value) and not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.txt", "1", "no file of rows"),
        ("rows.npz", "1", "cannot be read"),
        ("rows.csv", "a,b,c,d\n" + "1,2,3,x\n" * 12, "more than numbers"),
        ("rows.csv", "a,b\n" + "1,2\n" * 12, "shape [2] in each row"),
    ],
)
def test_files_that_are_no_rows_are_refused_in_a_sentence(name: str, content: str, words: str, tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(exported("table"))
    (tmp_path / name).write_text(content)
    with pytest.raises(AddNormError) as caught:
        adopt_tensors(tmp_path / "net.onnx", tmp_path / name, tmp_path / "m" / "a" / "1")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_is_read_by_its_columns(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(exported("table"))
    rows = rows_of("table", 12)["columns"]
    lines = ["a,kind,b,c,d", *(f"{a},{n % 3},{b},{c},{d}" for n, (a, b, c, d) in enumerate(rows.tolist()))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    hints = TensorHints(label="kind", labels=labels(tmp_path, "0", "1", "2"))
    with few_draws():
        adopted = adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.csv", tmp_path / "m" / "a" / "1", hints)
    assert adopted.accuracy is not None and adopted.artifact.manifest.training["texts"] == 12


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        ({"labels": ("a", "b")}, "2 different labels"),
        ({"output": "nothing"}, "has no output nothing"),
        ({"activation": "sigmoid"}, "--activation is for a network that classifies: pass --labels, too"),
        ({"label": "columns"}, "--label is for a network that classifies: pass --labels, too, or leave it out"),
    ],
)
def test_hints_that_do_not_fit_are_refused(hints: dict[str, Any], words: str, tmp_path: Path):
    if "labels" in hints:
        hints = {"labels": labels(tmp_path, *hints["labels"])}
    with pytest.raises(ExportError, match=words):
        adopt(tmp_path, "table", **hints)
    assert not (tmp_path / "models").exists()


def test_what_exists_is_not_replaced(tmp_path: Path):
    adopt(tmp_path, "table")
    with pytest.raises(ArtifactError, match="exists already"):
        adopt(tmp_path, "table")
