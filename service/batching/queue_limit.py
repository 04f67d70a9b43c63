"""How much may wait to run: what runs within five seconds, and little once some are refused in any case.

The bound is one in time, for tokens say little: a slow model, or a small share of a core, took ten seconds for what a
fast one ran in a third of a second, and refused nobody meanwhile. A long queue is good for a burst, which it answers
in the end. Where more comes than can be answered for longer than that, it saves nobody from being refused and makes
those wait who are accepted: then a short one does as much (controlled delay: Nichols and Jacobson 2012; Maurer, "Fail
at Scale", ACM Queue 2015).

It holds a whole batch in any case. Else goodput falls away: refusing takes time, so less drains in a second, less may
wait, batches get smaller, each text takes longer, and more are refused (docs/reliability.md has figures).
"""

import math
from collections.abc import Callable

RECENT = 0.1  # weight of the newest batch in the drain rate
LONG = 5.0  # seconds that a queue takes to drain, at most: 32 clients with long texts for a slow model need four
STANDING = 0.01  # seconds that a queue takes to drain while requests are refused
CALM = 1.0  # seconds in which none is refused, after which a long queue is allowed again


class QueueLimit:
    """Knows how fast a queue drains, and how much may stand in it.

    Args:
        most_tokens: that may ever wait, however fast they run.
        batch_tokens: that run together; so many may always wait.
        clock: seconds.
        token_seconds: how long a token runs, as measured before the first batch; 0 where that is not known.

    Attributes:
        tokens: most that may wait now.
    """

    def __init__(
        self, most_tokens: int, batch_tokens: int, clock: Callable[[], float], token_seconds: float = 0.0
    ) -> None:
        self.most_tokens, self.batch_tokens, self.clock = most_tokens, batch_tokens, clock
        self.tokens: float = most_tokens
        # recent batches: tokens, seconds in all; the first is a guess
        self._tokens = RECENT * batch_tokens if token_seconds else 0.0
        self._seconds = self._tokens * token_seconds
        self._rejected = False  # whether a request was refused since the last batch
        self._calm = -math.inf  # when none will have been refused for long enough
        self._settle()

    def admits(self, tokens: int, waiting: int) -> bool:
        """Whether a request of so many tokens may join those that wait.

        Any may where nothing waits. Where others are refused, all have the same chance, however large: what waits
        counts alone, so that single texts do not take each place that becomes free from a request of many.
        """
        return not waiting or (waiting < self.tokens and waiting + tokens <= self.most_tokens)

    @property
    def drain_rate(self) -> float:
        """Tokens per second over the recent batches, with what else was done between them; 0 before the first."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def reject(self) -> None:
        """A request was refused."""
        if not self._rejected:
            self._rejected = True
            self._settle()

    def drain(self, tokens: int, seconds: float) -> None:
        """A batch has run, so long after the one before it."""
        self._tokens += RECENT * (tokens - self._tokens)
        self._seconds += RECENT * (seconds - self._seconds)
        self._settle()
        self._rejected = False

    def _settle(self) -> None:
        now = self.clock()
        if self._rejected:
            self._calm = now + CALM
        if self._seconds:
            seconds = STANDING if now < self._calm else LONG
            self.tokens = min(self.most_tokens, max(self.batch_tokens, seconds * self.drain_rate))
