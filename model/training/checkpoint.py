"""A run directory: what training keeps, so that it can go on, be exported, or teach.

recipe.json         every choice, the data set's name, labels and source, the encoder's configuration
tokenizer.json      text only
model.safetensors   the best weights by validation
state.safetensors   where training stands: weights, their average, the optimizer's moments
metrics.jsonl       one line an epoch;  curves.png draws it
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from model.network.config import EncoderConfig
from model.network.encoder import Encoder
from model.training.recipe import Recipe
from runtime.errors import DataError

RECIPE, TOKENIZER, MODEL, STATE, METRICS, CURVES = (
    "recipe.json",
    "tokenizer.json",
    "model.safetensors",
    "state.safetensors",
    "metrics.jsonl",
    "curves.png",
)
InfoT = TypeVar("InfoT", bound="DataInfo")


class DataInfo(BaseModel):
    """What a run learned from: enough to load its data again and know that a resumed run is the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    data_sha256: str
    """Of every input and label: another file of the same name would leak what was held out."""
    source: str
    labels: list[str]
    text_column: str = "text"
    label_column: str = "label"


class RunInfo(DataInfo):
    """What a run is, its recipe and its encoder."""

    recipe: Recipe
    encoder: EncoderConfig
    teachers: list[str] = []


@dataclass(frozen=True, slots=True)
class Run:
    """A trained run, read from its directory.

    Attributes:
        model: the best weights, in evaluation mode.
        facts: what training noted beside the best weights: epoch, validation accuracy, ...
    """

    info: RunInfo
    model: Encoder
    tokenizer: Tokenizer | None
    facts: dict[str, str]


def load_run(directory: Path) -> Run:
    """Reads a run.

    Raises:
        DataError: it is missing or unreadable; names the file.
    """
    info = load_info(directory, RunInfo)
    model = Encoder(info.encoder).eval()
    facts = load_weights(model, directory)
    return Run(info, model, load_tokenizer(directory) if info.encoder.vocab_size else None, facts)


def load_weights(model: nn.Module, directory: Path) -> dict[str, Any]:
    """Gives a model the best weights of the run in a directory; returns the facts beside them."""
    tensors, facts = load_tensors(directory / MODEL)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{directory / MODEL} does not fit {directory / RECIPE}: train the run again.") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DataError(
                f"{directory / MODEL} has NaN or infinite numbers in {name}: train again, with a smaller "
                "--learning-rate and another --out."
            )
    return facts


def load_info(directory: Path, kind: type[InfoT]) -> InfoT:
    """What a run of this kind is."""
    path = directory / RECIPE
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): train a run with `addnorm train`.") from error
    except ValidationError as error:
        raise DataError(f"{path} is not a run of this version ({error.errors()[0]['msg']}): train it again.") from error


def read_recipe(directory: Path) -> dict[str, Any]:
    """What recipe.json holds, of whatever kind of run; raises DataError where that is nothing that can be read."""
    path = directory / RECIPE
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({reason}): give another --out, or remove {directory}.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} cannot be read (it holds no object): give another --out, or remove {directory}.")
    return found


def is_fine_tuned(directory: Path) -> bool:
    """Whether a directory holds the run of a pretrained encoder."""
    try:
        return "pretrained" in read_recipe(directory)
    except DataError:
        return False


def load_tokenizer(directory: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(directory / TOKENIZER))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"{directory / TOKENIZER} cannot be read ({error}): train the run again.") from error


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Writes a safetensors file, all of it or nothing, with `facts` in its header; tensors may be on any device."""
    with replacing(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={name: json.dumps(value) for name, value in facts.items()},
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a file to write, which becomes `path` if all went well; else nothing is left of it.

    Raises:
        DataError: it cannot be written, as on a full disk.
    """
    temporary = path.with_suffix(".tmp")
    with writing(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            with suppress(OSError):  # a half-written file takes the room that is missing
                temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Says in one sentence why a file cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be written ({reason}): free some space or allow writing, then the same command goes on."
        ) from error


def load_tensors(path: Path, advice: str = "train the run again") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, on the CPU wherever they were trained, and the facts in its header.

    Raises:
        DataError: it cannot be read, and what to do about that: `advice`, where the file itself is at fault.
    """
    try:
        # safe_open says of whatever cannot be opened that there is no such file
        with path.open("rb"), safe_open(path, framework="pt", device="cpu") as file:
            facts = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: torch.as_tensor(file.get_tensor(name)) for name in file.keys()}, facts  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, ValueError) as error:  # the facts of another's file need not be JSON
        raise DataError(f"{path} cannot be read ({error}): {advice}.") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{path} cannot be read ({reason}): see who may read it and whether its disk is whole, then run the same "
            "command again."
        ) from error
