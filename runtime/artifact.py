"""Reading and writing an artifact: one directory, the contract between export and service.

It is written to a temporary directory and put in its place at once, so a half-written artifact never appears under its
name; it is read whole, and every hash is checked before anything is used.
"""

import errno
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runtime.directories import check_writable, put_in_place, tidy, written_aside
from runtime.errors import RETRIES, ArtifactError
from runtime.manifest import BASELINE, CANARY, FORMAT, MANIFEST, MODEL, TOKENIZER, Manifest, compute_digest, sha256

LOWERED_FORMAT = 5  # of a manifest that tells of a lower precision
# errors that stay until the artifact is another; all others are of its disk
LASTING = {errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.EFBIG, errno.ELOOP, errno.ENXIO}
MANIFEST_BYTES = 32 << 20  # a thousand BatchNorms of a thousand features; JSON takes ten times that while it is parsed


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact, in memory.

    Attributes:
        files: content of every file but the manifest, by name.
    """

    path: Path
    manifest: Manifest
    files: dict[str, bytes]


def read_artifact(path: Path) -> Artifact:
    """Reads and verifies the artifact in directory `path`; again where another took its place meanwhile.

    Raises:
        ArtifactError: it is missing, half-written or altered; names the file.
    """
    for _ in range(RETRIES):
        before = state_of(path)
        try:
            return read_once(path)
        except ArtifactError:
            if state_of(path) == before:
                raise
    return read_once(path)


def state_of(path: Path) -> tuple[int, int] | None:
    """What tells whether another directory took the place of one; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def read_once(path: Path) -> Artifact:
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_directory = False
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_directory:
        raise ArtifactError(f"No artifact at {path}: export one with `addnorm export RUN --name NAME --version N`.")
    manifest = read_manifest(path / MANIFEST)
    expected = {MODEL, BASELINE, CANARY} | ({TOKENIZER} if manifest.inputs.kind == "text" else set())
    if missing := sorted(expected - manifest.files.keys()):
        raise ArtifactError(f"{path / MANIFEST} does not list {missing[0]}: export the model again.")
    return Artifact(path, manifest, {name: read_file(path, name, manifest) for name in manifest.files})


def read_regular(path: Path, size: int | None = None, most: int | None = None) -> bytes:
    """A file's content; raises OSError where it is none, without waiting: a pipe or a device may never end.

    A file that has not `size` bytes, or more than `most`, is not read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if size is not None and status.st_size != size:
            raise OSError(errno.EINVAL, f"it has {status.st_size:,} bytes in the place of {size:,}", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, at most {most:,} are read", str(path))
        return file.read()


def unreadable(path: Path, error: OSError) -> ArtifactError:
    """Its error; of the disk's, where another reading may not meet it, it is worth trying again."""
    passing = error.errno not in LASTING
    remedy = "look at its disk and its permissions" if passing else "export the model again"
    found = ArtifactError(f"{path} cannot be read ({error.strerror}): {remedy}.")
    found.retries = RETRIES if passing else 0
    return found


def read_manifest(path: Path) -> Manifest:
    try:
        content = read_regular(path, most=MANIFEST_BYTES)
        manifest = Manifest.model_validate_json(content)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArtifactError(
            f"{path} is not a manifest of format {FORMAT} ({where}: {first['msg']}): export the model again."
        ) from error
    if manifest.digest != compute_digest(json.loads(content)):
        raise ArtifactError(f"{path} was altered, its digest does not match: export the model again.")
    return manifest


def read_file(path: Path, name: str, manifest: Manifest) -> bytes:
    if Path(name).name != name or "\0" in name:
        raise ArtifactError(f"{path / MANIFEST} lists {name!r}, expected plain file names: export the model again.")
    try:
        content = read_regular(path / name, (manifest.sizes or {}).get(name))
    except OSError as error:
        raise unreadable(path / name, error) from error
    if sha256(content) != manifest.files[name]:
        raise ArtifactError(
            f"{path / name} was altered or half-written, its SHA-256 does not match: export the model again."
        )
    return content


def write_artifact(path: Path, manifest: Manifest, files: dict[str, bytes], overwrite: bool = False) -> Artifact:
    """Writes an artifact to directory `path`, all of it or nothing.

    Raises:
        ArtifactError: `path` exists already and `overwrite` is false, or it cannot be written.
    """
    check_target(path, overwrite)
    manifest = manifest.model_copy(
        update={
            "format": max(manifest.format, LOWERED_FORMAT) if manifest.precision else manifest.format,
            "files": {name: sha256(content) for name, content in files.items()},
            "sizes": {name: len(content) for name, content in files.items()},
        }
    ).sealed()
    try:
        with written_aside(path) as aside:
            write_files(aside, files | {MANIFEST: (manifest.model_dump_json(indent=2) + "\n").encode()})
            if not put_in_place(aside, path, overwrite):
                raise taken(path)
    except OSError as error:
        raise unwritable(path, error) from error
    return Artifact(path, manifest, files)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuses early what writing an artifact to `path` would refuse at the end, and puts right what a kill left there.

    Raises:
        ArtifactError: `path` exists already and `overwrite` is false, or nothing can be written there.
    """
    tidy(path)
    if path.exists() and not overwrite:
        raise taken(path)
    try:
        check_writable(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def taken(path: Path) -> ArtifactError:
    return ArtifactError(f"{path} exists already: choose another version, or pass --overwrite.")


def unwritable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path} cannot be written ({error.strerror}): look at its disk and its permissions.")


def write_files(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        with (directory / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
