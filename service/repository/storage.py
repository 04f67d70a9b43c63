"""The model repository on disk: which models and versions there are, and reading them.

DIRECTORY/NAME/VERSION/ are artifacts. What begins with a dot is none of them: artifacts are written there and renamed.
"""

import logging
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from runtime.artifact import Artifact, read_artifact, read_manifest
from runtime.errors import ArtifactError, InvalidInput, SettingError, UnknownModel
from runtime.manifest import MANIFEST, Manifest, version_order
from runtime.words import encodable, is_unicode, listed, quoted

# Of every file of a version: its name, size in bytes, time of its last change and number on its disk.
Signature = frozenset[tuple[str, str, int, int, int]]

logger = logging.getLogger("addnorm.service")


class Repository:
    """The artifacts below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def scan(self) -> dict[str, list[str]]:
        """The versions of every model, lowest first, the models by name.

        Raises:
            SettingError: the directory cannot be read.
        """
        try:
            names = folders(self.directory)
        except OSError as error:
            raise SettingError(
                f"{self.directory} cannot be read ({error.strerror}): name the directory that holds NAME/VERSION/."
            ) from error
        found = {name: self._versions(name) for name in names}
        return {name: sorted(versions, key=version_order) for name, versions in sorted(found.items()) if versions}

    def _versions(self, name: str) -> list[str]:
        try:
            return folders(self.directory / name)
        except OSError as error:  # it alone is lost
            logger.warning("%s cannot be read (%s): its versions are left out", self.directory / name, error.strerror)
            return []

    def versions(self, name: str) -> list[str]:
        """The versions of a model, lowest first.

        Raises:
            InvalidInput: no model can have that name.
            UnknownModel: there is none; says which there are.
        """
        check_name("model", name)
        found = self.scan()
        if name not in found:
            raise UnknownModel(f"There is no model {quoted(name)} in {self.directory}, there is {listed(found)}.")
        return found[name]

    def digest(self, name: str, version: str) -> str:
        """The digest of a version's manifest, which tells whether it is the one that was read before.

        Raises:
            ArtifactError: it cannot be read.
        """
        return read_manifest(self.directory / name / version / MANIFEST).digest

    def read(self, name: str, version: str) -> Artifact:
        """Reads and verifies a version.

        Raises:
            ArtifactError: it is missing, half-written or altered, or its manifest names another model or version.
        """
        artifact = read_artifact(self.directory / name / version)
        check_place(artifact.path, artifact.manifest)
        return artifact

    def signatures(self) -> dict[str, Signature]:
        """What tells whether anything of a model changed, by its name.

        Raises:
            SettingError: the directory cannot be read.
        """
        return {
            name: frozenset(entry for version in versions for entry in self._files(name, version))
            for name, versions in self.scan().items()
        }

    def _files(self, name: str, version: str) -> list[tuple[str, str, int, int, int]]:
        found = [(version, "", 0, 0, 0)]
        try:
            for entry in os.scandir(self.directory / name / version):
                stat = entry.stat()
                found.append((version, entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
        except OSError:  # it is being written or removed: another look shows what has become of it
            pass
        return found


def read_only(directory: Path, name: str | None = None) -> Artifact:
    """Reads and verifies the only artifact in a directory: the directory itself, or one at NAME/VERSION/ below it.

    Args:
        name: what it is to be called, instead of by its manifest; its digest stays, and with it what goes by that.

    Raises:
        ArtifactError: there is none or more than one, or it cannot be used.
        InvalidInput: no model can have that name.
    """
    if name is not None:
        check_name("model", name)
    artifact = read_artifact(find_only(directory))
    if name is None:
        return artifact
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"name": name}))


def find_only(directory: Path) -> Path:
    if (directory / MANIFEST).exists() or not directory.is_dir():
        return directory  # whoever reads it says what is wrong with it
    try:
        below = [directory / name for name in sorted(folders(directory))]
        deeper = [path / name for path in below if path.is_dir() for name in sorted(folders(path))]
    except OSError as error:
        raise ArtifactError(f"{error.filename} cannot be read ({error.strerror}): make it readable.") from error
    found = [path for path in below + deeper if (path / MANIFEST).exists()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path.relative_to(directory)) for path in found)
        raise ArtifactError(
            f"{directory} holds more than one artifact ({names}): name one, or serve all with --models."
        )
    raise ArtifactError(
        f"{directory} holds no artifact: expected {MANIFEST} in it, or in the one NAME/VERSION/ below it."
    )


def folders(directory: Path) -> list[str]:
    """The directories in a directory, and links that lead nowhere: whoever reads one of these says why it cannot.

    Left out are hidden ones, and those whose names nobody can ask for, with a warning.
    """
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and is_folder(entry)]
    odd = {name for name in names if not is_name(name)}
    for name in sorted(odd):
        warn_of(directory, name)
    return [name for name in names if name not in odd]


@lru_cache(maxsize=1000)
def warn_of(directory: Path, name: str) -> None:
    """Once for each directory, however often it is looked at."""
    where = encodable(str(directory))
    logger.warning("%s in %s is left out: give it a name in UTF-8 without backslashes", quoted(name), where)


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True


def check_name(what: str, name: str) -> None:
    """Refuses what is no name of a directory in the repository, before anything is looked up."""
    if not is_name(name):
        raise InvalidInput(
            "invalid_name",
            f"{quoted(name)} names no {what}: expected the name of a directory in UTF-8, without slashes and without a "
            "dot before it.",
        )


def is_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and is_unicode(name) and not any(sign in name for sign in "/\\\0")


def check_place(path: Path, manifest: Manifest) -> None:
    said, found = f"{manifest.name}/{manifest.version}", f"{path.parent.name}/{path.name}"
    if said != found:
        raise ArtifactError(f"{path} holds {said}, as its manifest says: move it there, or export it as {found}.")


class RepositoryPoller:
    """Looks at a repository again and again; what there is when it is made is no change.

    A change counts once it has stood still from one look to the next: an artifact that is copied takes its time.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.known = repository.signatures()
        self.seen = self.known.copy()
        self.failed: dict[str, int] = {}  # how often in a row a change of a model failed for a passing reason
        self.waiting: dict[str, int] = {}  # looks until it counts as changed again

    def tried(self, name: str, retries: int) -> bool:
        """Notes how a change of a model went; whether it counts as changed again, each time after twice as many looks.

        Args:
            retries: how often in a row it is worth trying again; 0 where the reason is on disk, or where it went well.
        """
        failed = self.failed.pop(name, 0)
        self.waiting.pop(name, None)
        if failed >= retries:
            return False
        self.failed[name], self.waiting[name] = failed + 1, 1 << failed
        return True

    def changed(self, repository: Repository | None = None) -> list[str]:
        """The models of which something changed.

        A repository that cannot be read or is empty has not changed: it is a disk that is away.

        Args:
            repository: what is looked at in its place.
        """
        try:
            found = (repository or self.repository).signatures()
        except SettingError as error:
            logger.warning("%s What is loaded goes on.", error)
            return []
        if not found:
            return []
        before, self.seen = self.seen, found
        names = sorted(found.keys() | self.known.keys())
        changed = [name for name in names if self.known.get(name) != found.get(name) == before.get(name)]
        for name in changed:
            self.known.pop(name, None)
            self.failed.pop(name, None)
            self.waiting.pop(name, None)
            if name in found:
                self.known[name] = found[name]
        self.waiting = {name: looks - 1 for name, looks in self.waiting.items()}
        again = [name for name, looks in self.waiting.items() if looks <= 0 and self.known.get(name) == found.get(name)]
        for name in again:
            del self.waiting[name]
        return sorted([*changed, *again])
