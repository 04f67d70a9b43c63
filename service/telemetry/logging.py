"""Log lines: as text or as JSON, with the id of the request that they are about, and never a word of what it said."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from service.settings import Settings

REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")  # of the request that is being answered
FIELDS = ("method", "route", "status", "seconds")  # what lines about requests say beside their message

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logging(settings: Settings) -> None:
    """Sends what this process logs to standard error, as the settings want it."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


class TextFormatter(logging.Formatter):
    """`LEVEL logger: message [request id]`."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter may have left there what is not to be said
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        return f"{line} [{request_id.decode()}]" if (request_id := REQUEST_ID.get()) else line

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        return "\n".join(stack(ei[1]))


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and where there are any request_id, FIELDS and exception."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id.decode()
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "\n".join(stack(record.exc_info[1]))
        return json.dumps(line)


def stack(error: BaseException | None) -> Iterator[str]:
    """Where an error came from, line by line.

    While a request is answered its own words are left out, and those of what led to it: they may quote the request.
    """
    if error is None:
        return
    if not REQUEST_ID.get():
        yield from "".join(traceback.format_exception(error)).rstrip().splitlines()
        return
    if (led := error.__cause__ or error.__context__) is not None:
        yield from stack(led)
        yield "which led to:"
    yield from "".join(traceback.format_tb(error.__traceback__)).rstrip().splitlines()
    yield type(error).__name__
