"""When to ask again, and after how long."""

import random
import time
from dataclasses import dataclass
from typing import Any, Generic

import httpx
from pydantic_core import to_json

from addnorm_client.calls import Answer, Call
from addnorm_client.errors import AddNormClientError, AddNormConnectionError, AddNormHTTPError

REFUSED = (429, 503)  # nothing was done: whatever was asked can be asked again
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
CUT_OFF = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)  # it may have been done
DOUBLINGS = 60  # of a wait; more are beyond any patience
SPARE = 1.0  # seconds that an answer may be late which says that it is too late


@dataclass(frozen=True, slots=True)
class Retries:
    """How often, and how patiently.

    Attributes:
        attempts: most times that one thing is asked; 1 asks once.
        backoff: seconds before the second, doubled before every further one; half of it to all of it, by chance, so
            that clients which were refused together do not come back together.
        longest: most seconds between two; an answer that asks for more patience is raised.
    """

    attempts: int = 4
    backoff: float = 0.1
    longest: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}, expected at least 1.")
        if not 0 <= self.backoff <= self.longest:
            raise ValueError(f"backoff is {self.backoff}, expected 0 to longest ({self.longest}).")

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the attempt of this number, from 1 on; more than `longest` where that is asked for."""
        backoff = min(self.longest, self.backoff * 2.0 ** min(attempt - 1, DOUBLINGS)) * random.uniform(0.5, 1.0)
        return max(backoff, retry_after or 0.0)


class Attempts(Generic[Answer]):
    """One call's attempts: what to send, and what to do about what came of it.

    Args:
        timeout: seconds to wait for an answer, where the call does not say.
    """

    def __init__(self, call: Call[Answer], retries: Retries, timeout: float) -> None:
        self.call, self.retries, self.timeout = call, retries, timeout
        self.number, self.started = 0, time.monotonic()

    def arguments(self) -> dict[str, Any]:
        """What httpx is to send."""
        self.number += 1
        call, left = self.call, self.left()
        arguments: dict[str, Any] = {"method": call.method, "url": call.path, "params": call.query}
        body = call.body
        if body is not None and left is not None:
            body = body | {"timeout": left}
        if body is not None:
            arguments |= {"content": written(body)}
            arguments |= {"headers": {"Content-Type": "application/json"}}
        connect = self.timeout if left is None else min(self.timeout, left)
        wait = left + SPARE if left is not None else call.patience or self.timeout
        return arguments | {"timeout": httpx.Timeout(connect, read=wait)}

    def left(self) -> float | None:
        """Seconds until the call's own time is up; None where it has all the time."""
        if self.call.timeout is None:
            return None
        return max(self.call.timeout - (time.monotonic() - self.started), 1e-3)

    def refused(self, response: httpx.Response) -> float:
        """Seconds until the next attempt; raises AddNormHTTPError where there is none."""
        error = AddNormHTTPError.of(response)
        pause = self.retries.pause(self.number, error.retry_after)
        if response.status_code not in REFUSED or not self.again(pause):
            raise error
        return pause

    def failed(self, error: httpx.RequestError) -> float:
        """Seconds until the next attempt; raises AddNormConnectionError where there is none."""
        pause = self.retries.pause(self.number, None)
        repeatable = isinstance(error, (*NEVER_SENT, *CUT_OFF) if self.call.repeatable else NEVER_SENT)
        if not repeatable or not self.again(pause):
            what = str(error) or type(error).__name__
            message = f"{self.call.method} {self.call.path} has no answer ({what}), asked {self.number} times."
            raise AddNormConnectionError(message) from error
        return pause

    def again(self, pause: float) -> bool:
        """Whether there is another attempt, after `pause` seconds."""
        left = self.left()
        in_time = pause <= self.retries.longest and (left is None or pause < left)
        return self.call.patient and in_time and self.number < self.retries.attempts


def written(body: dict[str, Any]) -> bytes:
    """The body as JSON; raises AddNormClientError where it holds what JSON cannot."""
    try:
        return to_json(body, inf_nan_mode="constants")
    except ValueError as error:  # half a surrogate pair, for one
        raise AddNormClientError(f"The request cannot be written as JSON ({error}): nothing was sent.") from error
