"""Which artifacts are served, why others are not, and what a model is to become: decided here, done elsewhere.

Of a model, the highest versions are served, as many as the settings say. A version that was asked for by its number
comes on top, whatever is put into the repository later, until somebody loads the model without a number. A version that
cannot be served is noted with its reason.
"""

import logging
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Self

from runtime.artifact import Artifact
from runtime.errors import AddNormError, ArtifactError, InvalidInput, SettingError, UnknownModel
from runtime.manifest import Manifest, version_order
from runtime.words import encodable, listed, quoted
from service.repository.change import Change, Failures
from service.repository.storage import Repository, RepositoryPoller, check_name, read_only
from service.settings import Settings

logger = logging.getLogger("addnorm.service")


class Catalog:
    """What is served of a repository.

    Args:
        repository: None serves what it is given, and nothing else.
        keep: how many of a model's highest versions are served; 0 serves all.
    """

    def __init__(self, repository: Repository | None, keep: int = 0) -> None:
        self.repository, self.keep = repository, keep
        self.default: str | None = None
        self.watch: RepositoryPoller | None = None
        self.served: dict[str, dict[str, Artifact]] = {}
        self.pinned: dict[str, frozenset[str]] = {}  # versions that were asked for by their number
        self.reasons: dict[tuple[str, str], str] = {}  # why versions are not served
        self.rejected: dict[str, AddNormError] = {}  # digest -> what kept an artifact from running that had been read

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """The artifacts or the repository that the settings name, read and verified.

        Raises:
            ArtifactError: nothing there can be served.
            SettingError: the directory, or the default model in it, cannot be used.
        """
        if settings.name is not None and "model" not in settings.model_fields_set:
            raise SettingError("name is for one artifact: name its directory with model, too, or leave name out.")
        if settings.models is None:
            return cls.fixed(read_only(directory, settings.name) for directory in settings.artifacts)
        catalog = cls(Repository(settings.models), settings.keep_versions)
        catalog.default = settings.default_model
        if settings.watch:
            catalog.watch = RepositoryPoller(Repository(settings.models))  # what changes while it is read is a change
        catalog._start(settings.models, settings.model_control == "explicit", watched=settings.watch is not None)
        return catalog

    @classmethod
    def fixed(cls, artifacts: Iterable[Artifact]) -> Self:
        """Serves these, always."""
        catalog = cls(None)
        for artifact in artifacts:
            catalog.served.setdefault(artifact.manifest.name, {})[artifact.manifest.version] = artifact
        return catalog

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> Self:
        """The same, where the artifacts are loaded already."""
        return cls.fixed(Artifact(Path(), manifest, {}) for manifest in manifests)

    def _start(self, directory: Path, may_be_empty: bool, watched: bool) -> None:
        names = self._repository().scan()
        if not (names or may_be_empty or watched):  # what comes later is seen
            raise SettingError(f"{directory} holds no model, expected NAME/VERSION/ as `addnorm export` writes them.")
        if names and self.default is not None and self.default not in names and not may_be_empty:
            raise SettingError(f"default_model is {quoted(self.default)}, there is {listed(names)} in {directory}.")
        for name in names:
            self.commit(self.reconcile(name))
        if names and not self.served and not may_be_empty:
            raise ArtifactError(f"No model in {directory} can be served: {next(iter(self.reasons.values()))}")

    @property
    def default_name(self) -> str:
        """The model that answers requests that name none."""
        return self.default or next(iter(self.served), "")

    def settle(self) -> None:
        """Keeps the current default model, even if others are loaded later."""
        self.default = self.default_name

    def artifacts(self) -> list[Artifact]:
        """All that are served."""
        return [artifact for versions in self.served.values() for artifact in versions.values()]

    def load(self, name: str, version: str | None = None) -> Change:
        """Reads a model's highest versions, or one more version; what is served and did not change is not read again.

        Raises:
            ArtifactError: the version, or the highest, cannot be used.
            InvalidInput, UnknownModel: there is no such model or version.
        """
        versions = self._repository().versions(name)
        if version is None:
            return self._change(name, self._best(name, versions, versions[-1], self.keep), versions[-1])
        check_name("version", version)
        if version not in versions:
            raise UnknownModel(f"There is no version {quoted(version)} of {name} on disk, there is {listed(versions)}.")
        artifacts = self.served.get(name, {}) | {version: self._read(name, version, True)}
        return self._change(name, artifacts, version, self.pinned.get(name, frozenset()) | {version})

    def follow(self, name: str) -> Change:
        """As `load`, where something changed on disk: versions that were asked for by their number stay.

        Raises:
            ArtifactError: the highest version cannot be used.
            UnknownModel: there is no such model.
        """
        versions = self._repository().versions(name)
        return self._renewed(name, versions, versions[-1])

    def reconcile(self, name: str) -> Change:
        """The same of those that work, whichever these are.

        Raises:
            UnknownModel: there is no such model.
        """
        return self._renewed(name, self._repository().versions(name), None)

    def unload(self, name: str) -> Change:
        """None of the model's versions.

        Raises:
            UnknownModel: it is not served.
        """
        self._repository()
        check_name("model", name)
        if name not in self.served:
            raise UnknownModel(f"Model {quoted(name)} is not loaded, {listed(self.served)} is.")
        return self._change(name, {}, None)

    def over(self, repository: Repository | None) -> Self:
        """This catalog, reading another repository: notes and what is served are the same."""
        view = copy(self)
        view.repository = repository
        return view

    def reject(self, change: Change, failures: Failures) -> None:
        """Notes which fresh artifacts cannot run; another plan of the same leaves them out.

        Raises:
            AddNormError: why not, where it is the version without which nothing changes.
        """
        for artifact in change.fresh:
            manifest = artifact.manifest
            if (error := failures.get(manifest.digest)) is not None:
                self.rejected[manifest.digest] = error
                self._note(manifest.name, manifest.version, error)
                if manifest.version == change.required or self.repository is None:
                    raise error

    def commit(self, change: Change) -> None:
        """Notes that a change was made."""
        served = self.served | {change.name: change.artifacts}
        # in one step: other threads read it
        self.served = {name: served[name] for name in sorted(served) if served[name]}
        if self.default == "":  # nothing was there at the start
            self.settle()
        self.pinned[change.name] = change.pinned
        for version, artifact in change.artifacts.items():
            self.reasons.pop((change.name, version), None)
            self.rejected.pop(artifact.manifest.digest, None)

    def release_contents(self) -> None:
        """Forgets the content of what is served, where no other process is to start with it."""
        self.served = {
            name: {version: replace(artifact, files={}) for version, artifact in versions.items()}
            for name, versions in self.served.items()
        }

    def scan(self) -> dict[str, list[str]]:
        """The versions of every model on disk; none where nothing is loaded from there."""
        return self.repository.scan() if self.repository else {}

    def index(self, found: dict[str, list[str]]) -> list[dict[str, str]]:
        """Every model and version, served or `found` on disk, as the Open Inference Protocol's extension has it."""
        served = self.served
        entries = []
        for name in sorted(found.keys() | served.keys()):
            for version in sorted({*found.get(name, ()), *served.get(name, ())}, key=version_order):
                state = "READY" if version in served.get(name, ()) else "UNAVAILABLE"
                reason = self.reasons.get((name, version), "" if state == "READY" else "not loaded")
                entries.append({"name": name, "version": version, "state": state, "reason": reason})
        return entries

    def _repository(self) -> Repository:
        if self.repository is None:
            raise InvalidInput(
                "no_repository",
                "There is no model repository: start with `--models DIRECTORY` to load and unload models.",
            )
        return self.repository

    def _renewed(self, name: str, versions: list[str], required: str | None) -> Change:
        highest = self._best(name, versions, required, self.keep)
        pinned = self.pinned.get(name, frozenset()) & set(versions)
        others = self._best(name, sorted(pinned - highest.keys()))
        return self._change(name, highest | others, required, pinned)

    def _change(
        self, name: str, artifacts: dict[str, Artifact], required: str | None, pinned: frozenset[str] = frozenset()
    ) -> Change:
        served = self.served.get(name, {})
        fresh = [artifact for version, artifact in artifacts.items() if served.get(version) is not artifact]
        return Change(name, artifacts, fresh, required, pinned)

    def _best(self, name: str, versions: list[str], required: str | None = None, most: int = 0) -> dict[str, Artifact]:
        """The highest versions that can be read, `most` of them; 0 for all."""
        found: dict[str, Artifact] = {}
        for version in reversed(versions):
            if most and len(found) == most:
                break
            try:
                found[version] = self._read(name, version, version == required)
            except AddNormError:
                if version == required:
                    raise
        return found

    def _read(self, name: str, version: str, again: bool) -> Artifact:
        """A version as it is served or on disk; `again` gives one another chance that was rejected."""
        served, repository = self.served.get(name, {}).get(version), self._repository()
        try:
            digest = repository.digest(name, version)
            if served is not None and served.manifest.digest == digest and digest not in self.rejected:
                return served
            if digest in self.rejected and not again:
                raise self.rejected[digest]
            return repository.read(name, version)
        except AddNormError as error:
            self._note(name, version, error)
            raise

    def _note(self, name: str, version: str, error: AddNormError) -> None:
        if self.reasons.get((name, version)) != (reason := encodable(str(error))):
            self.reasons[name, version] = reason
            logger.error("%s version %s cannot be served: %s", name, version, reason)
