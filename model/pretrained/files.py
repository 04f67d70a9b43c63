"""The files of a directory that others made: JSON whose values may be of any type, and weights."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runtime.artifact import read_regular
from runtime.errors import ExportError
from runtime.words import is_unicode

T = TypeVar("T")
KINDS = {bool: "true or false", str: "text", dict: "an object", list: "a list", int: "a whole number"}


def read_json(file: Path, kind: type[T]) -> T:
    """The content of a JSON file.

    Raises:
        ExportError: it cannot be read, is no JSON, or not a `kind`.
    """
    try:
        content = json.loads(read_regular(file))
    except OSError as error:
        raise ExportError(f"{file} cannot be read ({error.strerror}): copy the whole directory of the model.") from None
    except (ValueError, RecursionError):
        raise ExportError(f"{file} is no JSON: download or save the model again.") from None
    if not isinstance(content, kind):
        raise ExportError(f"{file} must hold {KINDS[kind]}: download or save the model again.")
    return content


@dataclass(frozen=True, slots=True)
class Settings:
    """A JSON file of settings. What is null or left out has its default; another type than that of it is refused."""

    file: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, file: Path, optional: bool = False) -> "Settings":
        return cls(file, {} if optional and not file.exists() else read_json(file, dict))

    def get(self, key: str, default: T) -> T:
        value = self.content.get(key)
        if value is None:
            return default
        if type(value) is not type(default):
            raise self.refusal(key, f"{KINDS[type(default)]} is needed")
        if isinstance(value, str) and not is_unicode(value):
            raise self.refusal(key, "it has half a surrogate pair, valid Unicode is needed")
        return value

    def positive(self, key: str) -> int:
        """A whole number that must be there."""
        value = self.get(key, 0)
        if value < 1:
            raise self.refusal(key, "a whole number from 1 on is needed")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """An object of texts."""
        value: dict[str, Any] = self.get(key, {})
        if not all(type(text) is str for text in value.values()):
            raise self.refusal(key, "an object of texts is needed")
        if not all(is_unicode(text) for pair in value.items() for text in pair):
            raise self.refusal(key, "it has half a surrogate pair, valid Unicode is needed")
        return value

    def must_be(self, key: str, wanted: Any, reason: str) -> None:
        """Refuses every other value; says nothing where there is none."""
        if self.content.get(key) not in (None, wanted):
            raise self.refusal(key, reason)

    def refusal(self, key: str, wanted: str) -> ExportError:
        return ExportError(f"{key} in {self.file} is {json.dumps(self.content.get(key))[:80]}: {wanted}.")


def check_weights(folder: Path) -> None:
    """Refuses a folder whose weights are not, or not all, there as safetensors."""
    if (folder / "model.safetensors").is_file():
        return
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = [name for name in sorted(set(shards(index))) if not (folder / name).is_file()]
        if missing:
            raise ExportError(f"{folder} lacks {', '.join(missing)}, which {index.name} lists: copy all its files.")
    elif any(folder.glob("pytorch_model*")):
        raise ExportError(
            f"{folder} has pickled weights only, which may run anything when they are opened: save the model "
            "with save_pretrained(safe_serialization=True), which writes model.safetensors."
        )
    else:
        raise ExportError(f"{folder} has no model.safetensors: copy the whole directory of the model.")


def shards(index: Path) -> list[str]:
    files = list(Settings.read(index).texts("weight_map").values())
    if not files or any(Path(name).name != name for name in files):
        raise ExportError(f"{index} must map weights to files beside it: download or save the model again.")
    return files


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of what may have been read, by its path in the directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
