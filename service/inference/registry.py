"""The models that a service answers for, by name and version."""

from collections.abc import Iterable, Iterator

from runtime.errors import Unavailable, UnknownModel
from runtime.manifest import version_order
from runtime.words import listed, quoted
from service.inference.engine import Engine
from service.telemetry.inference_counts import Counted


class ModelRegistry:
    """Engines that answer, by the name and version in their manifests.

    They change in the event loop alone, in one step; who has found an engine has its answer from it, however long it
    takes: an engine that was replaced is closed by nobody, and gone when nobody holds it any more.

    Args:
        engines: those that answer from the start on.
        default_name: the default model; where it is not given, the first engine's.

    Attributes:
        counted: what was answered with each engine that there ever was.
    """

    def __init__(self, *engines: Engine, default_name: str | None = None) -> None:
        self._engines: dict[str, dict[str, Engine]] = {}
        self.counted = Counted()
        for engine in engines:
            self.counted.add(engine.manifest.digest, engine.counts, engine.batcher.counters)
            self._engines.setdefault(engine.manifest.name, {})[engine.manifest.version] = engine
        self.default_name = default_name or next(iter(self._engines), "")
        self._find_default()

    def __iter__(self) -> Iterator[Engine]:
        return (engine for versions in self._engines.values() for engine in versions.values())

    def replace(self, name: str, engines: Iterable[Engine]) -> None:
        """From now on, these are the engines of a model; none unloads it."""
        changed = {other: versions for other, versions in self._engines.items() if other != name}
        if versions := {engine.manifest.version: engine for engine in engines}:
            changed[name] = versions
        for engine in versions.values():
            self.counted.add(engine.manifest.digest, engine.counts, engine.batcher.counters)
        self._engines = changed  # in one step: other threads read it
        self._find_default()

    def names(self) -> list[str]:
        """The models that answer, by name."""
        return sorted(self._engines)

    def versions(self, name: str) -> list[str]:
        """The versions of a model that answer, lowest first; empty where there are none."""
        return sorted(self._engines.get(name, {}), key=version_order)

    @property
    def default(self) -> Engine:
        """What answers a request that names no model: the default model's highest version.

        Raises:
            Unavailable: that model is not loaded.
        """
        if (engine := self._default) is None:  # read once: other threads may see it change
            if not self.default_name:
                raise Unavailable("No model is loaded yet: put one into the repository, as NAME/VERSION/.")
            raise Unavailable(
                f"The default model {self.default_name!r} is not loaded: "
                f"load it with POST /v2/repository/models/{self.default_name}/load."
            )
        return engine

    def find(self, name: str | None = None, version: str | None = None) -> Engine:
        """The engine of a model and version: by default the default model's, and the highest.

        Raises:
            UnknownModel: there is none; says which there are.
            Unavailable: none is named, and the default model is not loaded.
        """
        if name is None:
            if version is None:
                return self.default
            name = self.default_name
        engines = self._engines.get(name, {})  # of one moment: it may be replaced meanwhile
        if not engines:
            raise UnknownModel(f"There is no model {quoted(name)} here, there is {listed(self.names())}.")
        versions = sorted(engines, key=version_order)
        if version is None:
            version = versions[-1]
        if version not in engines:
            raise UnknownModel(f"There is no version {quoted(version)} of {name} here, there is {listed(versions)}.")
        return engines[version]

    @property
    def full(self) -> Engine | None:
        """The only engine that there is, if it answers requests without a model's name, and refuses all of them now."""
        return self._only if self._only is not None and self._only.batcher.full else None

    def start(self) -> None:
        """Begins to keep statistics, where the settings ask for it."""
        for engine in self:
            engine.start()

    async def close(self) -> None:
        """Answers what was accepted, and keeps the statistics a last time."""
        for engine in self:
            await engine.close()

    def _find_default(self) -> None:
        self._default = self.find(self.default_name) if self.default_name in self._engines else None
        self._only = self._default if len(list(self)) == 1 else None
