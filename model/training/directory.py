"""The directory of a run: it is made, or holds the same run already, or is refused."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from model.training.checkpoint import RECIPE, TOKENIZER, DataInfo, RunInfo, load_info, read_recipe, replacing
from model.training.recipe import Recipe
from runtime.errors import DataError

COLUMNS = {"text_column": "text", "label_column": "label"}  # what a run notes -> the option
CHOICE = "recipe."
MOST = 3  # choices that are told


def open_directory(directory: Path, info: DataInfo, tokenizer: Tokenizer | None) -> None:
    """Makes the run directory, or checks that the one there is of the same run."""
    if is_run_of(directory, info):
        return
    make_directory(directory, info)
    try:
        if tokenizer is not None:
            with replacing(directory / TOKENIZER) as temporary:
                temporary.write_text(tokenizer.to_str(), encoding="utf-8")
        with replacing(directory / RECIPE) as temporary:  # last: what has it is a run, and goes on
            temporary.write_text(info.model_dump_json(indent=2) + "\n")
    except BaseException:
        with suppress(OSError):
            (directory / TOKENIZER).unlink(missing_ok=True)
        raise


def make_directory(directory: Path, info: DataInfo | None = None) -> None:
    """Makes a directory, or refuses one that holds anything.

    Args:
        info: of the run that it is to hold, to say in what the one there differs.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(directory.iterdir())
    except OSError as error:
        raise DataError(f"{directory} cannot be written ({error.strerror}).") from error
    if taken and (directory / RECIPE).exists():
        read_recipe(directory)
        which = f" ({found})" if info and (found := tell_difference(directory, info)) else ""
        raise DataError(f"{directory} holds a run with other choices or data{which}: give another --out, or remove it.")
    if taken:
        raise DataError(f"{directory} is not empty and holds no run: give another --out.")


def tell_difference(directory: Path, info: DataInfo) -> str:
    """In what the run in a directory differs from this one, data first; empty where that is not known."""
    try:
        there = load_info(directory, type(info))
    except DataError:
        return ""
    old, new = flat(there.model_dump(mode="json")), flat(info.model_dump(mode="json"))
    others = [name for name in new if old.get(name) != new[name]]
    if "data_sha256" in others and not COLUMNS.keys() & set(others):
        return "its data differ"
    chosen = [name for name in others if name in COLUMNS or name.startswith(CHOICE)]
    told = [f"--{option_of(name)} {old.get(name)}, not {new[name]}" for name in chosen[:MOST]]
    return f"it has {'; '.join(told)}" if told else ""


def option_of(name: str) -> str:
    return COLUMNS.get(name) or name.removeprefix(CHOICE).replace("_", "-")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by their paths."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def is_begun_with(directory: Path, recipe: Recipe) -> bool:
    """Whether a directory has a run with exactly this recipe, as those have that began before there were defaults for
    few texts: it goes on as it began."""
    try:
        return load_info(directory, RunInfo).recipe == recipe
    except DataError:
        return False


def is_run_of(directory: Path, info: DataInfo) -> bool:
    """Whether the run in a directory is this one; one of another kind is not."""
    try:
        return load_info(directory, type(info)) == info
    except DataError:
        return False
