"""Reading a repository apart: a disk may take its time, and whoever decides what is served must not wait for it.

A plan runs twice: where waiting does no harm, on a repository that remembers what was read of it; then where it counts,
on what was remembered. It reads the same again, for it depends on nothing else that can change meanwhile.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Unavailable
from service.repository.storage import Repository, Signature

Found = dict[tuple[str, ...], Any]  # what a method gave or raised, by its name and arguments


class Recording(Repository):
    """A repository that remembers what was read of it, errors included."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.found: Found = {}

    def scan(self) -> dict[str, list[str]]:
        return self._call(super().scan, "scan")  # type: ignore[no-any-return]

    def digest(self, name: str, version: str) -> str:
        return self._call(super().digest, "digest", name, version)  # type: ignore[no-any-return]

    def read(self, name: str, version: str) -> Artifact:
        return self._call(super().read, "read", name, version)  # type: ignore[no-any-return]

    def signatures(self) -> dict[str, Signature]:
        return self._call(super().signatures, "signatures")  # type: ignore[no-any-return]

    def _call(self, method: Callable[..., Any], *called: str) -> Any:
        try:
            found = self.found[called] = method(*called[1:])
        except AddNormError as error:
            self.found[called] = error.with_traceback(None)  # which would hold what was read
            raise
        return found


class Recorded(Recording):
    """What a Recording remembered, in the place of the disk."""

    def __init__(self, directory: Path, found: Found) -> None:
        super().__init__(directory)
        self.found = found

    def _call(self, method: Callable[..., Any], *called: str) -> Any:
        try:
            found = self.found[called]
        except KeyError:
            raise Unavailable(f"{self.directory} changed while it was read: try again.") from None
        if isinstance(found, AddNormError):
            raise found.with_traceback(None)
        return found


def record(disk: Recording, plan: Callable[[], object]) -> Found:
    """What `plan` reads of `disk`. What it raises, it raises again on what was recorded."""
    with suppress(Exception):
        plan()
    return disk.found
