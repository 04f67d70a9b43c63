"""What can be asked of the model repository, wherever it is decided: in this process (service/loading.py) or in the
parent of all workers (service/following.py).
"""

from typing import Protocol


class Control(Protocol):
    def start(self) -> None:
        """Begins to do its part, in the event loop."""

    async def close(self) -> None:
        """Ends its part."""

    async def index(self, ready: bool) -> list[dict[str, str]]:
        """Every model and version: name, version, state (READY or UNAVAILABLE), reason."""

    async def load(self, name: str, version: str | None) -> None:
        """Serves a model's highest versions, or one version more; returns when they answer.

        Raises:
            AddNormError: nothing changed; says why.
        """

    async def unload(self, name: str) -> None:
        """Serves a model no more; what was accepted is answered.

        Raises:
            AddNormError: nothing changed; says why.
        """
