"""What the file of an artifact's statistics keeps: rows of names, numbers and contents, and reading them.

States are binary (runtime/store/binary.py); files of older versions hold them as compressed JSON, and are read as well.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from pydantic_core import to_json

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.recorder import Place
from runtime.statistics.state import SparseState
from runtime.statistics.windows import Bucket
from runtime.store.binary import (
    FORMAT,
    is_binary,
    pack_content,
    pack_deep,
    pack_whole,
    unpack_content,
    unpack_deep,
    unpack_sparse,
)
from runtime.store.checks import END, UNUSABLE, belongs, checked_name, within
from runtime.store.document import StateDocument, bucket_from_dict
from runtime.store.shares import SECONDS, SEQUENCES
from runtime.words import listed, shortened

EVERYTHING, BASELINE, FLEET = "everything", "baseline", "fleet"
HEAD, STATE, DEEP = 0, 1, 2  # the numbers of the rows that say what was seen since counting began
SELECT = "SELECT name, number, content FROM kept WHERE name LIKE ? ORDER BY name, number"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an artifact's traffic.

    Attributes:
        document: of everything since counting began.
        buckets: of the time windows, in the order of their numbers; when saved, those that changed.
        baselines: those that were taken from live traffic, oldest first, as JSON.
        replicas: the services that counted it, one after the other, as they are known to others of their fleet.
        revision: of the baselines, the highest of the fleet.
    """

    document: StateDocument
    buckets: list[Bucket] = field(default_factory=list)
    baselines: list[bytes] = field(default_factory=list)
    replicas: tuple[str, ...] = ()
    revision: int = 0

    def check(self, manifest: Manifest, source: str) -> Self:
        """These, if they are of `manifest`'s model. Raises StateError."""
        self.document.check(manifest, source)
        if not all(belongs(bucket.content, manifest) for bucket in self.buckets):
            raise StateError(f"{source} has a time bucket that does not fit the layers of its model: it was altered.")
        return self

    def rows(self) -> list[tuple[str, int, bytes]]:
        """What is written of it."""
        head = self.document.head() | {"format": FORMAT}
        rows = [(EVERYTHING, HEAD, pack_json(head))]
        rows.append((EVERYTHING, STATE, pack_whole(SparseState.compress(self.document.state))))
        if self.document.deep is not None:
            rows.append((EVERYTHING, DEEP, pack_deep(self.document.deep)))
        rows += [(ring, number, pack_content(content)) for ring, number, content in self.buckets]
        rows += [(BASELINE, number, zlib.compress(content)) for number, content in enumerate(self.baselines)]
        return [*rows, (FLEET, 0, pack_json({"replicas": self.replicas, "revision": self.revision}))]


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
        contents = {checked_place(name, number): inflated(content) for name, number, content in rows}
        fleet = json.loads(contents.get((FLEET, 0), b"{}"))
        replicas = tuple(map(checked_name, fleet.get("replicas", ())))
        revision = int(within(fleet.get("revision", 0), SEQUENCES))
    except (*UNUSABLE, zlib.error) as error:
        raise StateError(f"{path} holds what is no state ({error}).") from error
    return Kept(
        parse_everything(contents, str(path)),
        [
            Bucket(name, number, parse_bucket(name, content, str(path)))
            for (name, number), content in contents.items()
            if name not in (EVERYTHING, BASELINE, FLEET)
        ],
        [content for (name, _), content in contents.items() if name == BASELINE],
        replicas,
        revision,
    )


def checked_place(name: Any, number: Any) -> Place:
    """Name and number of a row: SQLite keeps any type in any column. Raises ValueError where no row has them."""
    if not (isinstance(name, str) and isinstance(number, int)):
        raise ValueError("a row without a name and a number")
    seconds, _ = SECONDS.get(name, (1, 0))
    within(number * seconds, END)
    return name, number


def parse_everything(contents: Mapping[tuple[str, int], bytes], source: str) -> StateDocument:
    """What was seen since counting began. Raises StateError."""
    head = contents.get((EVERYTHING, HEAD), b"")
    if (EVERYTHING, STATE) not in contents:
        return StateDocument.from_json(head, source)  # of an older version: all of it
    document = StateDocument.from_head(head, FORMAT, source)
    state = unpack_sparse(contents[EVERYTHING, STATE], source).expand()
    deep = contents.get((EVERYTHING, DEEP))
    return replace(document, state=state, deep=None if deep is None else unpack_deep(deep, source))


def parse_bucket(ring: str, content: bytes, source: str) -> SparseState | DeepState:
    """A time bucket of the ring of that name. Raises StateError."""
    if is_binary(content):
        return unpack_content(ring, content, source)
    try:
        return bucket_from_dict(ring, json.loads(content), source)
    except UNUSABLE as error:
        raise StateError(f"{source} holds what is no state ({error}).") from error


def inflated(content: bytes) -> bytes:
    return content if is_binary(content) else zlib.decompress(content)


def pack_json(content: dict[str, Any]) -> bytes:
    return zlib.compress(to_json(content), 1)


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
            f"No statistics of version {shortened(version)} of {manifest.name} are kept that no other service holds "
            f"open, expected one of: {listed(sorted(set(known)))}."
        )
    return max(kept, key=lambda document: document.covered.end)
