"""Keeps statistics over restarts: one file per artifact, written every second while traffic changes it.

A kill loses at most the last second. A file that cannot be read is set aside; a disk that cannot be written leaves
the statistics in memory. Both are logged, and `storage` says it.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.state_document import StateDocument

logger = logging.getLogger("addnorm.statistics")

Storage = Literal["memory", "disk", "disk_failing"]
INTERVAL = 1.0  # seconds between writes


class StateStore:
    """The file of one artifact's statistics.

    Args:
        directory: where it lies; made where it is missing. None keeps nothing.
        manifest: the artifact's; a new version of a model starts a file of its own.
    """

    def __init__(self, directory: Path | None, manifest: Manifest) -> None:
        self.manifest = manifest
        self.path = directory / f"{manifest.digest[:16]}.json" if directory else None
        self.storage: Storage = "disk" if directory else "memory"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self) -> StateDocument | None:
        """What was kept; None where nothing was, or nothing that can be read."""
        if self.path is None or not self.path.exists():
            return None
        try:
            return StateDocument.from_json(self.path.read_bytes(), str(self.path)).check(self.manifest, str(self.path))
        except (OSError, StateError) as error:
            aside = self.path.with_suffix(".unreadable.json")
            logger.warning("%s Set aside as %s; counting starts anew.", error, aside.name)
            try:
                self.path.replace(aside)
            except OSError:
                logger.warning("%s cannot be renamed; it will be written over.", self.path)
            return None

    def save(self, document: StateDocument) -> None:
        """Writes the file, all of it or nothing; a failure is logged once, until it is mended."""
        if self.path is None:
            return
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(document.to_dict(), separators=(",", ":"), allow_nan=False))
            temporary.replace(self.path)
        except OSError as error:
            if self.storage != "disk_failing":
                logger.warning("%s cannot be written (%s): statistics stay in memory.", self.path, error.strerror)
            self.storage = "disk_failing"
            return
        if self.storage == "disk_failing":
            logger.info("%s can be written again.", self.path)
        self.storage = "disk"

    def start(self, read: Callable[[], StateDocument]) -> None:
        """Saves what `read` gives, every second in which its requests grew, until `stop`."""
        if self.path is None:
            return

        def run() -> None:
            saved = -1
            while True:
                stopping = self._stop.wait(INTERVAL)
                document = read()
                if document.state.requests != saved or self.storage == "disk_failing":
                    self.save(document)
                    saved = document.state.requests
                if stopping:
                    return

        self._thread = threading.Thread(target=run, name="addnorm-statistics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Saves a last time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
