"""Networks from directories of transformers, in float32; what does not fit is refused."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from model.pretrained.families import Family, family_of
from model.pretrained.modules import DenseLayer
from model.pretrained.packed import PackedTransformer
from model.pretrained.source import Source
from model.pretrained.watched import is_norm, norm_eps
from runtime.errors import ExportError

# rotary positions of these types depend on the longest text of a batch
UNSTEADY_ROPE = ("dynamic", "longrope")
# bytes of weights in a file of ONNX, which is one message of protobuf; 32 MB are left for all else
LARGEST = (2 << 30) - (32 << 20)
LARGEST_EPS = 1e30  # beside which float32 has no number to divide by


def load(source: Source) -> PackedTransformer:
    """The network of a directory, in float32.

    Raises:
        ExportError: its weights cannot be read, or do not fit its config.json.
    """
    family = family_of(source.model_type)
    model = load_model(source, family, bare=source.task == "embedding")
    dense, width = nn.Sequential(), model.config.hidden_size
    for layer in source.dense:
        if layer.in_features != width:
            raise ExportError(f"The Dense layer {layer.weights} takes {layer.in_features} numbers of {width}.")
        dense.extend(load_dense(layer))
        width = layer.out_features
    return pack_network(model, dense, family, source)


def load_with_new_head(source: Source) -> PackedTransformer:
    """The encoder of a directory with a linear layer of random weights behind it, a row for each of the labels."""
    family = family_of(source.model_type)
    return with_head(load_model(source, family, bare=True), family, source)


def make_with_head(source: Source) -> PackedTransformer:
    """The same of random weights, as `source.config` describes it: weights are loaded into it."""
    family = family_of(source.model_type)
    auto: Any = AutoModel
    config = AutoConfig.for_model(**source.config)
    with quiet_transformers():
        model = auto.from_config(
            config, dtype=torch.float32, attn_implementation=family.attention, **without_pooler(family)
        )
    run_whole(model)
    return with_head(model, family, source)


def with_head(model: Any, family: Family, source: Source) -> PackedTransformer:
    head = nn.Linear(model.config.hidden_size, len(source.labels))
    return pack_network(model, nn.Sequential(), family, source, head)


def pack_network(
    model: Any, dense: nn.Module, family: Family, source: Source, head: nn.Module | None = None
) -> PackedTransformer:
    """The module that takes packed batches, which runs once here: some settings of config.json only fail then."""
    try:
        return PackedTransformer(model, dense, family, source, head).eval()
    except ExportError:
        raise
    except Exception as error:  # of torch, of transformers, or of the manifest
        raise ExportError(
            f"The network of {source.path} cannot run as its config.json describes it ({reason_of(error)}): "
            "download or save the model again."
        ) from error


def without_pooler(family: Family) -> dict[str, bool]:
    return {"add_pooling_layer": False} if family.pooler else {}


def load_model(source: Source, family: Family, bare: bool) -> Any:
    """The network with all weights that it was saved with; `bare`: without any head."""
    auto: Any = AutoModel if bare else AutoModelForSequenceClassification
    lean = without_pooler(family) if bare else {}
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # check_fit refuses what does not fit
    try:
        with quiet_transformers():
            model, found = auto.from_pretrained(
                source.path, dtype=torch.float32, attn_implementation=family.attention, **safe, **told, **lean
            )
    except Exception as error:  # whatever transformers and its libraries raise
        raise unreadable(source.path, error) from error
    check_fit(source, model, found)
    check_rope(source, model)
    check_size(source, model)
    check_finite(source.path, model)
    check_eps(source, model)
    run_whole(model)
    return model


def check_fit(source: Source, model: Any, found: dict[str, Any]) -> None:
    """Refuses weights that are missing, of another shape, or of a part of the encoder that config.json leaves out."""
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    surplus = [key for key in found["unexpected_keys"] if key.removeprefix(prefix).split(".")[0] in parts]
    mismatched = [key for key, *_ in found["mismatched_keys"]]
    problems = {"missing": found["missing_keys"], "of another shape": mismatched, "too many": surplus}
    for problem, keys in problems.items():
        if keys:
            raise ExportError(
                f"The weights in {source.path} do not fit its config.json ({len(keys)} are {problem}, for example "
                f"{min(keys)}): download or save the model again."
            )


def check_finite(path: Any, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ExportError(
                f"{path} has NaN or infinite numbers in {name}, and all weights must be finite: "
                "save the model again from a step of its training that has none."
            )


def check_eps(source: Source, model: nn.Module) -> None:
    for name, norm in model.named_modules():
        if is_norm(norm) and not 0 < (eps := norm_eps(norm)) < LARGEST_EPS:
            raise ExportError(
                f"layer_norm_eps, norm_eps or rms_norm_eps in the config.json of {source.path} is not usable, {name} "
                f"has {eps}: a small number above 0 is needed, such as 1e-12."
            )


def run_whole(model: Any) -> None:
    """Sets what may be set in config.json, changes no result, and cannot be exported."""
    model.config.return_dict = True
    for module in model.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0


def check_size(source: Source, model: Any) -> None:
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST:
        raise ExportError(
            f"{source.path} has {size / 1e9:.1f} GB of weights in float32, and up to 2 GB can be adopted."
        )


def check_rope(source: Source, model: Any) -> None:
    rope = str(getattr(model.config, "rope_parameters", None))
    for kind in UNSTEADY_ROPE:
        if f"'{kind}'" in rope:  # of one of the types of layers
            raise ExportError(
                f"{source.path} has rotary positions of the type {kind}, which depend on the longest text of a batch: "
                "they cannot be packed, export it to ONNX and adopt that file instead."
            )


def load_dense(layer: DenseLayer) -> list[nn.Module]:
    try:
        linear = nn.Linear(layer.in_features, layer.out_features, layer.bias)  # which may be too large for the memory
        weights = load_file(layer.weights)
        linear.load_state_dict({name.removeprefix("linear."): weight.float() for name, weight in weights.items()})
    except Exception as error:  # of safetensors, of torch, or of the file system
        raise unreadable(layer.weights, error) from error
    check_finite(layer.weights, linear)
    return [linear, nn.Tanh() if layer.activation == "tanh" else nn.Identity()]


def unreadable(path: Any, error: Exception) -> ExportError:
    return ExportError(f"{path} cannot be loaded ({reason_of(error)}): download or save the model again.")


def reason_of(error: Exception) -> str:
    """An error of others in a part of a sentence."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps progress bars, reports and notes to developers from the user; what matters is checked here."""
    logging: Any = transformers_logging  # it has no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
