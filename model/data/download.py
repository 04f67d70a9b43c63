"""Fetching a public data file once, by its checksum."""

import hashlib
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from runtime.errors import DataError

CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A public file: where it lies below the data folder, where it comes from, and its SHA-256.

    The SHA-256 is empty for an archive whose packing changes: who reads it checks the content.
    """

    path: str
    url: str
    sha256: str


def fetch(file: RemoteFile, data: Path) -> Path:
    """Returns the local copy of `file`, downloading it where it is missing.

    Raises:
        DataError: it cannot be downloaded, or its checksum is another; what was there before stays.
    """
    local = data / file.path
    if not local.is_file():
        download(file, local)
    found = hashlib.sha256(local.read_bytes()).hexdigest()
    if file.sha256 and found != file.sha256:
        raise DataError(
            f"{local} has SHA-256 {found[:12]}…, expected {file.sha256[:12]}…: remove it to download it again."
        )
    return local


def download(file: RemoteFile, local: Path) -> None:
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=local.parent)
    except OSError as error:
        raise DataError(
            f"{local.parent} cannot be written ({error.strerror}): name another folder with --data."
        ) from error
    temporary = Path(name)
    digest = hashlib.sha256()
    try:
        with (
            os.fdopen(descriptor, "wb") as target,
            urllib.request.urlopen(file.url, timeout=30) as response,
            Progress(transient=True) as progress,
        ):
            task = progress.add_task(
                f"downloading {local.name}", total=int(response.headers.get("Content-Length", 0)) or None
            )
            while chunk := response.read(CHUNK):
                target.write(chunk)
                digest.update(chunk)
                progress.advance(task, len(chunk))
        if file.sha256 and digest.hexdigest() != file.sha256:
            raise DataError(
                f"{file.url} has SHA-256 {digest.hexdigest()[:12]}…, expected {file.sha256[:12]}…: nothing was kept."
            )
        temporary.rename(local)
    except OSError as error:
        raise DataError(
            f"{file.url} cannot be downloaded ({error}): put the file at {local}, "
            "or point ADDNORM_DATA at a folder that has it."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
