"""What the file of an artifact's statistics keeps: rows of names, numbers and compressed JSON, and reading them."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.windows import Bucket
from runtime.store.document import StateDocument, bucket_from_dict

EVERYTHING, BASELINE = "everything", "baseline"
SELECT = "SELECT name, number, content FROM kept WHERE name LIKE ? ORDER BY name, number"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an artifact's traffic.

    Attributes:
        document: of everything since counting began.
        buckets: of the time windows, in the order of their numbers; when saved, those that changed.
        baselines: those that were taken from live traffic, oldest first, as JSON.
    """

    document: StateDocument
    buckets: list[Bucket] = field(default_factory=list)
    baselines: list[bytes] = field(default_factory=list)


def read_kept(path: Path, only: str = "%") -> Kept:
    """What the file at `path` keeps.

    Args:
        only: an SQL pattern of the names to read.

    Raises:
        StateError: it keeps nothing that can be read.
        sqlite3.Error: it is no such file, or another process has it.
    """
    import sqlite3

    connection = sqlite3.connect(path, timeout=0.1)
    try:
        rows = connection.execute(SELECT, (only,)).fetchall()
    finally:
        connection.close()
    return parse_kept(rows, path)


def parse_kept(rows: list[tuple[str, int, bytes]], path: Path) -> Kept:
    """What the rows of the file at `path` say.

    Raises:
        StateError: they are no state.
    """
    try:
        contents = [(name, number, zlib.decompress(content)) for name, number, content in rows]
    except (zlib.error, TypeError) as error:
        raise StateError(f"{path} holds what is no state ({error}).") from error
    document = next((content for name, _, content in contents if name == EVERYTHING), b"")
    return Kept(
        StateDocument.from_json(document, str(path)),
        [
            Bucket(name, number, bucket_from_dict(name, json.loads(content), str(path)))
            for name, number, content in contents
            if name not in (EVERYTHING, BASELINE)
        ],
        [content for name, _, content in contents if name == BASELINE],
    )


def kept_version(directory: Path | None, manifest: Manifest, version: str) -> StateDocument:
    """What another version of the same model saw, as its own service kept it in `directory`.

    Raises:
        StateError: nothing of that version is kept, or its service is running and has it.
    """
    if directory is None:
        raise StateError("Versions can be compared where ADDNORM_STATE keeps their statistics: none is set.")
    import sqlite3

    kept, known = [], []
    for path in sorted(directory.glob("*.sqlite")):
        try:
            document = read_kept(path, only=EVERYTHING).document
        except (StateError, sqlite3.Error):
            continue  # another process has it, or it holds something else
        if document.model == manifest.name and document.digest != manifest.digest:
            known.append(document.version)
            if document.version == version:
                kept.append(document)
    if not kept:
        raise StateError(
            f"No statistics of version {version} of {manifest.name} are kept that no other service holds open, "
            f"expected one of: {', '.join(sorted(set(known))) or 'none'}."
        )
    return max(kept, key=lambda document: document.covered.end)
