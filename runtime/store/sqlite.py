"""Keeps statistics over restarts: one SQLite file per artifact, written every second while traffic changes it.

A kill loses at most the last second. A file that cannot be read is set aside; a disk that cannot be written leaves
the statistics in memory. Both are logged, and `storage` says it. A file that another service has is read once that has
ended, and before anything is written: the counts of both are kept.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Literal

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.windows import Windows
from runtime.store.kept import BASELINE, SELECT, Kept, parse_kept, read_kept
from runtime.threads import give_way

if TYPE_CHECKING:  # a megabyte: imported where statistics are kept
    import sqlite3

logger = logging.getLogger("addnorm.statistics")

Storage = Literal["memory", "disk", "disk_failing"]
INTERVAL = 1.0  # seconds between writes
SETUP = (
    "PRAGMA locking_mode = EXCLUSIVE",  # one process writes
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS kept (name TEXT, number INTEGER, content BLOB, PRIMARY KEY (name, number))",
)
UPSERT = "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)"


class StateStore:
    """The file of one artifact's statistics.

    Args:
        directory: where it lies; made where it is missing. None keeps nothing.
        manifest: the artifact's; a new version of a model starts a file of its own.
        absorb: adds what another service has left in the file.
    """

    def __init__(
        self, directory: Path | None, manifest: Manifest, absorb: Callable[[Kept], None] = lambda _: None
    ) -> None:
        self.manifest, self.directory, self.absorb = manifest, directory, absorb
        self.unread = False  # whether the file holds or may hold what another service counted, and has to be read
        self.path = directory / f"{manifest.digest[:16]}.sqlite" if directory else None
        self.storage: Storage = "disk" if directory else "memory"
        self.replicas: tuple[str, ...] = ()  # that counted what is kept, as it was saved last
        self.newest: dict[str, int] = {}  # of each ring, the newest bucket that is kept
        self._connection: sqlite3.Connection | None = None
        self._saved: object = None  # what tells whether there is something new to save
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self) -> Kept | None:
        """What was kept; None where nothing was, or nothing that can be read."""
        if self.path is None or not self._exists():
            return None
        import sqlite3

        try:
            return read_kept(self.path).check(self.manifest, str(self.path))
        except (StateError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                logger.warning("%s belongs to a running service: it is read once that has ended.", self.path)
                self.unread = True
                return None
            aside = self._aside(error)
            try:
                self.path.replace(aside)
            except OSError:
                logger.warning("%s cannot be renamed; it will be written over.", self.path)
            return None

    def _exists(self) -> bool:
        """Whether there is a file. Where there is none, the directory is tried, so that one that cannot work is told
        at once and not when there is something to save."""
        assert self.path is not None
        try:
            if self.path.exists():
                return True
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.path.parent):  # no state yet: the model may never answer
                pass
        except OSError as error:
            self._fail(error)
        self.unread = True  # another service may write one before this does: its counts are not written over
        return False

    def _aside(self, error: Exception) -> Path:
        assert self.path is not None
        aside = self.path.with_suffix(".unreadable.sqlite")
        logger.warning("%s (%s) Set aside as %s; counting starts anew.", self.path, error, aside.name)
        return aside

    def _take_over(self) -> None:
        """Reads what another service has left in the file, if that has ended."""
        assert self.path is not None
        import sqlite3

        try:
            connection = self._connect()
            rows = connection.execute(SELECT, ("%",)).fetchall()
            if rows:  # none were kept where the directory could not be used at the start
                self.absorb(parse_kept(rows, self.path).check(self.manifest, str(self.path)))
        except StateError as error:
            aside = self._aside(error)
            aside.unlink(missing_ok=True)
            connection.execute("VACUUM INTO ?", (str(aside),))
            connection.execute("DELETE FROM kept")
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            return
        self.unread = False

    def _fail(self, error: Exception) -> None:
        """A failure is logged once, until it is mended."""
        if self.storage != "disk_failing":
            logger.warning("%s cannot be written (%s): statistics stay in memory.", self.path, error)
        self.storage = "disk_failing"
        self._disconnect()

    def save(self, kept: Kept) -> None:
        """Writes what changed, all of it or nothing."""
        if self.path is None or self.unread:
            return
        import sqlite3

        try:
            with self._connect() as connection:
                self._write(connection, kept)
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            return
        self.replicas = kept.replicas
        self.newest |= {bucket.ring: bucket.number for bucket in kept.buckets}
        if self.storage == "disk_failing":
            logger.info("%s can be written again.", self.path)
        self.storage = "disk"

    def _connect(self) -> "sqlite3.Connection":
        if self._connection is None:
            import sqlite3

            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, check_same_thread=False, timeout=0.1)
            try:
                for statement in SETUP:
                    connection.execute(statement)
            except sqlite3.Error:
                connection.close()  # it may have locked the file, and no other could
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, connection: "sqlite3.Connection", kept: Kept) -> None:
        connection.executemany(UPSERT, kept.rows())
        connection.execute("DELETE FROM kept WHERE name = ? AND number >= ?", (BASELINE, len(kept.baselines)))
        for ring, size in Windows.sizes().items():
            numbers = [bucket.number for bucket in kept.buckets if bucket.ring == ring]
            if numbers:  # what is after the newest was of a clock that was wrong
                span = max(numbers) - size + 1, max(numbers)
                connection.execute("DELETE FROM kept WHERE name = ? AND number NOT BETWEEN ? AND ?", (ring, *span))

    def save_changed(self, read: Callable[[dict[str, int]], Kept]) -> None:
        """Saves what `read` gives, if it changed since the last time.

        Args:
            read: what there is to keep, given the newest bucket of each ring that is kept already.
        """
        if self.unread:
            self._take_over()
        if self.path is None or self.unread:
            return
        kept = read(self.newest)
        version = (
            kept.document.state.requests,
            kept.document.deep and kept.document.deep.requests,
            kept.baselines,
            kept.revision,
        )
        if version != self._saved or self.storage == "disk_failing":
            self.save(kept)
            self._saved = version

    def start(self, read: Callable[[dict[str, int]], Kept]) -> None:
        """Begins a thread that calls `save_changed` every second, until `stop`; does nothing where one does already."""
        if self.path is None or self._thread is not None:
            return

        def run() -> None:
            give_way()
            while True:
                stopping = self._stop.wait(INTERVAL)
                self.save_changed(read)
                if stopping:
                    return

        self._thread = threading.Thread(target=run, name="addnorm-statistics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Saves a last time where a thread saves, and lets the file go."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._disconnect()
