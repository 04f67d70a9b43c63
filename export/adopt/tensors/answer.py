"""What of a network's outputs is a row's class, or its vector. What nobody says is asked for, never guessed."""

# R rows, C classes, D features

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.adopt.norms.probing import Feeds
from export.adopt.onnx_file.ending import before_activation, refuse_probabilities
from export.adopt.onnx_file.source import choose_labels
from export.adopt.tensors.file import TensorFile
from model.pretrained.files import Settings
from runtime.errors import ExportError
from runtime.manifest import Activation, TensorInputs


@dataclass(frozen=True, slots=True)
class TensorHints:
    """What the user says of a file of tensors.

    Attributes:
        labels: a file with the name of a class in a line: the network classifies.
        label: array or column of the baseline with the class of each row.
        output: the output that holds logits, or a row's vector.
        activation: softmax or sigmoid, of a classifier whose file ends in neither.
        folded: whether what Conv and Gemm give is observed, as what a BatchNorm that was folded into them gave.
    """

    labels: Path | None = None
    label: str | None = None
    output: str | None = None
    activation: Activation | None = None
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What of the network's outputs a row's class or vector is.

    Attributes:
        name: the value that holds logits [R, C], or vectors [R, D]; None: what the last norm sees is the vector.
        labels: of the logits; none of a network that does not classify.
    """

    name: str | None
    width: int | None
    labels: list[str]
    activation: Activation


def choose_answer(file: TensorFile, inputs: TensorInputs, hints: TensorHints, rows: Sequence[Feeds]) -> Answer:
    """The output that classes are told by, where labels are given; else the one that is a row's vector.

    Args:
        rows: some of the baseline, on which logits are told from probabilities.
    """
    wide = {spec.name: spec.shape[0] for spec in inputs.outputs if len(spec.shape) == 1 and spec.dtype != "int64"}
    if hints.output is not None and hints.output not in wide:
        some = ", ".join(wide) or "none"
        raise ExportError(f"{file.path} has no output {hints.output} with a vector for each row, it has {some}.")
    if hints.labels is None:
        if odd := next((name for name in ("label", "activation") if getattr(hints, name) is not None), None):
            raise ExportError(f"--{odd} is for a network that classifies: pass --labels, too, or leave it out.")
        name = hints.output or next((name for name, width in wide.items() if (width or 0) > 1), None)
        return Answer(name, wide[name] if name else None, [], "softmax")
    names = [hints.output] if hints.output else list(wide)
    if len(names) != 1:
        raise ExportError(f"{file.path} has {len(names)} outputs with a vector for each row: name one with --output.")
    width = wide[names[0]]
    if width is None:
        raise ExportError(f"{file.path} gives {names[0]} of no fixed size: export it with as many logits as classes.")
    name, ended = before_activation(file, names[0])
    if hints.activation is None and ended is None:
        refuse_probabilities(file.path, name, np.concatenate([file.run(row)[name] for row in rows]))
    labels = choose_labels(Settings(hints.labels, {}), hints.labels, width)
    return Answer(name, width, labels, hints.activation or ended or "softmax")


def class_names(given: list[str] | None, labels: list[str]) -> list[str] | None:
    """The class of every row by its name, where the baseline has numbers of classes, from 0 on."""
    if given is None or not set(given).isdisjoint(labels) or not all(name.isdecimal() for name in given):
        return given
    return [labels[int(name)] if int(name) < len(labels) else name for name in given]
