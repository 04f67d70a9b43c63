"""What sentence-transformers puts behind an encoder: modules.json, pooling, linear layers, normalization."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from model.pretrained.files import Settings, check_weights, read_json
from runtime.errors import ExportError
from runtime.manifest import PoolingKind

DenseActivation = Literal["tanh", "identity"]

# sentence-transformers' names of poolings, and the flags that older versions wrote
POOLINGS: dict[str, PoolingKind] = {
    "mean": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
    "weightedmean": "weighted",
}
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ORDER = re.compile(r"Transformer( Pooling( Dense)*( Normalize)?)?")
SUPPORTED = ("Transformer", "Pooling", "Dense", "Normalize")


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A linear layer behind the pooling; its file holds `linear.weight` [out, in] and `linear.bias` [out]."""

    in_features: int
    out_features: int
    bias: bool
    activation: DenseActivation
    weights: Path


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a directory.

    Attributes:
        transformer: the folder of the encoder.
        pooling: None if nothing is said about it.
        normalize: whether vectors are divided by their length.
    """

    transformer: Path
    pooling: PoolingKind | None
    dense: list[DenseLayer]
    normalize: bool


def read_modules(path: Path) -> Modules:
    """The modules that modules.json lists; the encoder alone if there is no such file.

    Raises:
        ExportError: a module, their order or a setting of theirs is not supported.
    """
    file = path / "modules.json"
    if not file.exists():
        return Modules(path, None, [], False)
    modules = [read_entry(file, entry) for entry in read_json(file, list)]
    kinds = [kind for kind, _ in modules]
    unknown = [kind for kind in kinds if kind not in SUPPORTED]
    if unknown:
        raise ExportError(f"{file} lists {unknown[0]}, and only {', '.join(SUPPORTED)} can be adopted.")
    if not ORDER.fullmatch(" ".join(kinds)):
        raise ExportError(
            f"{file} lists {', '.join(kinds) or 'nothing'}: one Transformer, then one Pooling, then Dense layers, "
            "then one Normalize can be adopted."
        )
    pooling = next((read_pooling(folder) for kind, folder in modules if kind == "Pooling"), None)
    dense = [read_dense(folder) for kind, folder in modules if kind == "Dense"]
    return Modules(modules[0][1], pooling, dense, "Normalize" in kinds)


def normalizes(path: Path) -> bool:
    """Whether modules.json ends in a normalization; true where there is none, as most embeddings are compared so."""
    file = path / "modules.json"
    return not file.exists() or any(
        kind == "Normalize" for kind, _ in (read_entry(file, e) for e in read_json(file, list))
    )


def read_entry(file: Path, entry: Any) -> tuple[str, Path]:
    """The class of a module without the path of its package, which differs between versions, and its folder."""
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("type", "path")):
        raise ExportError(f"{file} must give every module a type and a path: download or save the model again.")
    folder = file.parent / entry["path"]
    try:
        inside = folder.resolve().is_relative_to(file.parent.resolve())
    except ValueError:  # no path can have a NUL, or half a surrogate pair
        inside = False
    if not inside:
        raise ExportError(f"{file} names {json.dumps(entry['path'])}, and modules must lie inside the directory.")
    return entry["type"].rpartition(".")[2], folder


def read_pooling(folder: Path) -> PoolingKind:
    settings = Settings.read(folder / "config.json")
    settings.must_be("include_prompt", True, "pooling without the prompt's tokens cannot be adopted")
    mode = settings.content.get("pooling_mode")
    if mode is None:  # older versions wrote a flag for each, and took the mean if none was set
        mode = [name for flag, name in FLAGS.items() if settings.get(flag, False)] or "mean"
    names = mode if isinstance(mode, list) else [mode]
    if len(names) != 1 or not isinstance(names[0], str) or names[0] not in POOLINGS:
        raise ExportError(
            f"{settings.file} asks for the pooling {ascii(' and '.join(map(str, names)))[1:-1][:80]}, "
            f"and only one of {', '.join(POOLINGS)} can be adopted."
        )
    return POOLINGS[names[0]]


def read_dense(folder: Path) -> DenseLayer:
    settings = Settings.read(folder / "config.json")
    settings.must_be("use_residual", False, "a Dense layer with a residual cannot be adopted")
    for key in ("module_input_name", "module_output_name"):
        settings.must_be(key, "sentence_embedding", "a Dense layer can be adopted only behind the pooling")
    check_weights(folder)
    return DenseLayer(
        settings.positive("in_features"),
        settings.positive("out_features"),
        settings.get("bias", True),
        read_activation(settings),
        folder / "model.safetensors",
    )


def read_activation(settings: Settings) -> DenseActivation:
    if settings.content.get("activation_function", "") is None:
        return "identity"
    name = settings.get("activation_function", "Tanh").rpartition(".")[2]
    for activation in get_args(DenseActivation):
        if name.lower() == activation:
            return activation
    raise settings.refusal("activation_function", "only Tanh and Identity can be adopted")
