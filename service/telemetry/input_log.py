"""The input log: a sample of what was asked and answered, as JSON lines, for `addnorm score` and for people.

It is off by default. A line is one input: id, model, version, time, label, score, tokens, and how far it lies from the
baseline at every norm. Its text is kept only where the settings ask for it: its beginning, without what a pattern
matches. The size of the files is bounded, also of those that ended processes have left, and they are for their owner to
read.
"""

import json
import logging
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from random import Random
from typing import Any

from runtime.drift.baseline import Baseline
from runtime.errors import SettingError
from runtime.graph.batch import EncodedBatch, row_means, token_values
from runtime.manifest import Manifest
from service.settings import Settings
from service.telemetry.logging import REQUEST_ID

logger = logging.getLogger("addnorm.service")

FILES = 4  # of a process: the one that is written, and those before
ENDED = 8  # times the size of a process's files: what those of ended processes may take together
REDACTED = "[redacted]"
# Characters of a text that are kept, and those beyond that are looked at, so that what is cut apart is recognized. The
# pattern runs where requests are answered: it must never see a text of any length.
KEPT, BEYOND = 4096, 256


class PrivateFile(RotatingFileHandler):
    """Files that only their owner reads; the one that is written is locked, so that others see that it is in use."""

    def _open(self):  # type: ignore[no-untyped-def]  # its type has another name in every version of the stubs
        file = open(self.baseFilename, self.mode, encoding=self.encoding, opener=open_private)  # noqa: SIM115
        with suppress(ImportError, OSError):  # a system, or a disk, without locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH)
        return file


class InputLog:
    """Writes a sample of the inputs of one process; what cannot be written is told once, and not kept.

    Args:
        random: decides which requests are in the sample.

    Raises:
        SettingError: the directory cannot be written to.
    """

    def __init__(self, settings: Settings, random: Random | None = None) -> None:
        assert settings.input_log is not None
        self.share, self.random = settings.input_log_share, random or Random()
        self.pattern = re.compile(settings.input_log_redact) if settings.input_log_texts else None
        self.path = settings.input_log / f"inputs-{socket.gethostname()}-{os.getpid()}.jsonl"
        self.failing = False
        try:
            settings.input_log.mkdir(0o700, parents=True, exist_ok=True)
            self.handler = PrivateFile(
                self.path, maxBytes=max(1, settings.input_log_bytes // FILES), backupCount=FILES - 1, encoding="utf-8"
            )
        except OSError as error:
            raise SettingError(f"input_log cannot be written ({error}): name a directory that can.") from error
        remove_oldest(settings.input_log, ENDED * settings.input_log_bytes)
        self.handler.handleError = self._fail  # type: ignore[method-assign]

    def note(self, manifest: Manifest, baseline: Baseline, batch: EncodedBatch, inputs: Sequence[Any]) -> None:
        """Keeps the inputs of a request, if it is in the sample.

        Args:
            inputs: what the client sent; none where that is not known.
        """
        if self.random.random() >= self.share:
            return
        z_scores = baseline.z_scores(row_means(token_values(batch.norm_statistics, manifest.layers), batch.lengths))
        now, request_id = datetime.now(UTC).isoformat(timespec="milliseconds"), REQUEST_ID.get().decode()
        for row, z in enumerate(z_scores.tolist()):
            line = {"id": request_id, "row": row, "time": now, "model": manifest.name, "version": manifest.version}
            if manifest.task == "classification":
                line |= {"label": manifest.labels[batch.classes[row]], "score": round(batch.scores[row], 6)}
            line |= {"tokens": int(batch.lengths[row])}
            line |= {"mean_z": rounded(z[::2]), "variance_z": rounded(z[1::2])}
            if self.pattern is not None and row < len(inputs) and isinstance(inputs[row], str):
                line["text"] = redacted(inputs[row], self.pattern)
            self._write(line)

    def close(self) -> None:
        self.handler.close()

    def _write(self, line: dict[str, Any]) -> None:
        self.handler.handle(logging.LogRecord("", logging.INFO, "", 0, json.dumps(line), None, None))

    def _fail(self, record: logging.LogRecord) -> None:
        if not self.failing:
            logger.exception("%s cannot be written: inputs are not kept until it can", self.path)
        self.failing = True


def redacted(text: str, pattern: re.Pattern[str]) -> str:
    """The first characters of a text, without what `pattern` matches in them."""
    parts, at = [], 0
    for match in pattern.finditer(text[: KEPT + BEYOND]):
        if match.start() >= KEPT:
            break
        parts += [text[at : match.start()], REDACTED]
        at = match.end()
    return "".join([*parts, text[at:KEPT]])


def open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remove_oldest(directory: Path, limit: int) -> None:
    """Removes the oldest files of ended processes, until the rest has no more than `limit` bytes."""
    found = []
    for path in directory.glob("inputs-*.jsonl*"):
        with suppress(ImportError, OSError):  # no locks here; or another process removes it, too
            if not is_written(path.with_name(path.name.partition(".jsonl")[0] + ".jsonl")):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    for _, size, path in sorted(found, reverse=True):
        limit -= size
        if limit < 0:
            with suppress(OSError):
                path.unlink()


def is_written(path: Path) -> bool:
    """Whether a process writes a file of this name; raises OSError or ImportError where that cannot be known."""
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back at once: the file is closed
    except FileNotFoundError:  # what is left are its older parts
        return False
    except BlockingIOError:
        return True
    return False


def rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def open_input_log(settings: Settings) -> InputLog | None:
    """The log of this process, where the settings ask for one. Raises SettingError."""
    return None if settings.input_log is None else InputLog(settings)
