"""Why there is no answer.

AddNormClientError
├── AddNormHTTPError         the service says why
├── AddNormConnectionError   the service cannot be reached, or did not answer in time
└── AddNormAnswerError       something answered, but not as the service does
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx


class AddNormClientError(Exception):
    """Base of all errors of the client."""


class AddNormConnectionError(AddNormClientError):
    """There was no answer; `__cause__` is httpx's error."""


class AddNormAnswerError(AddNormClientError):
    """The answer cannot be read: check the address; `__cause__` says what is wrong with it."""


class AddNormHTTPError(AddNormClientError):
    """An answer that says why there is no other.

    Args:
        status: HTTP status.
        code: machine-readable reason, as docs/api.md lists them; empty where something else than the service answered.
        message: one sentence: what was wrong, what is allowed.
        retry_after: seconds after which to ask again, where the answer says so.
        request_id: what the service's log calls the request.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: float | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(status, code, message, retry_after, request_id)
        self.status, self.code, self.message = status, code, message
        self.retry_after, self.request_id = retry_after, request_id

    def __str__(self) -> str:
        return f"{self.message} ({' '.join(filter(None, [str(self.status), self.code]))})"

    @classmethod
    def of(cls, response: httpx.Response) -> "AddNormHTTPError":
        """What an answer says, whoever gave it."""
        message, code = said(response)
        headers = response.headers
        return cls(
            response.status_code, code, message, seconds(headers.get("Retry-After")), headers.get("X-Request-ID")
        )


def said(response: httpx.Response) -> tuple[str, str]:
    """The message and the code of an answer; its reason alone where a proxy or the like gave it."""
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        code = body.get("code")
        return body["error"], code if isinstance(code, str) else ""
    return f"{response.url} answers {response.status_code} {response.reason_phrase}.", ""


def seconds(retry_after: str | None) -> float | None:
    """The header Retry-After, a number of seconds or a date (RFC 9110); None where it is missing or neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
