"""The models that a service answers for, by name and version."""

from collections.abc import Iterator

from runtime.errors import UnknownModel
from service.engine import Engine


class Models:
    """Engines that answer, by the name and version in their manifests.

    Args:
        engines: at least one; the first one's name is the default model.
    """

    def __init__(self, *engines: Engine) -> None:
        self._engines: dict[str, dict[str, Engine]] = {}
        for engine in engines:
            self._engines.setdefault(engine.manifest.name, {})[engine.manifest.version] = engine
        self.default = self.find()  # what answers a request that names no model

    def __iter__(self) -> Iterator[Engine]:
        return (engine for versions in self._engines.values() for engine in versions.values())

    def versions(self, name: str) -> list[str]:
        """The versions of a model that answer, lowest first; empty where there are none."""
        return sorted(self._engines.get(name, {}), key=version_order)

    def find(self, name: str | None = None, version: str | None = None) -> Engine:
        """The engine of a model and version: by default the first model's highest.

        Raises:
            UnknownModel: there is none; says which there are.
        """
        if name is None:
            name = next(iter(self._engines))
        if not (versions := self.versions(name)):
            raise UnknownModel(f"There is no model {name!r} here, there is {', '.join(self._engines)}.")
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise UnknownModel(f"There is no version {version!r} of {name} here, there is {', '.join(versions)}.")
        return self._engines[name][version]

    @property
    def full(self) -> bool:
        """Whether whatever was asked would be refused."""
        return self.default.batcher.full

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        for engine in self:
            engine.start()

    async def close(self) -> None:
        """Answers what was accepted, and keeps the statistics a last time."""
        for engine in self:
            await engine.close()


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions: numbers by their value, above all other names."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)
