from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from addnorm.commands.table import make_console, show
from addnorm_client import (
    AddNormAnswerError,
    AddNormClientError,
    AddNormConnectionError,
    AddNormHTTPError,
    Client,
    Retries,
)
from addnorm_client.models import NormStatsResponse
from runtime.artifact import read_artifact
from runtime.console import PlainConsole
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import SettingError, StateError, Unavailable
from runtime.manifest import Manifest
from runtime.options import option_config
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument
from service.norm_stats.report import Observed, all_layers
from service.settings import EMBEDDED

SHORT = 1.0  # seconds to wait for what the table can do without


class Stats(BaseSettings):
    """Prints the normalization statistics of a running service; `merge A B ...` those of several states together.

    A state is the address of a service, or a file that GET /norm-stats/state wrote.
    """

    model_config = option_config("addnorm stats")

    of: CliPositionalArg[list[str]] = Field(["http://127.0.0.1:8000"], min_length=1)
    """Address of the service; or merge, and the states to merge."""
    name: str | None = None
    """Name of the model; where it is not given, the service's default model."""
    version: str | None = None
    """Version of the model; the highest where it is not given."""
    model: Path = EMBEDDED
    """Merge: directory of the artifact that the states belong to."""
    timeout: float = Field(10.0, gt=0, le=3600, allow_inf_nan=False)
    """Seconds to wait for its answer."""
    api_key: str = ""
    """A key, where the service asks one of those who read."""

    def cli_cmd(self) -> None:
        what, *states = self.of
        asked = Asked(self.timeout, self.api_key, self.name, self.version)
        if what == "merge":
            print_merged(states, self.model, asked)
        elif states:
            raise SettingError(
                f"addnorm stats prints one service, and is given {len(self.of)} addresses: "
                "name one, or put `merge` before them."
            )
        else:
            print_stats(what, asked)


Answer = TypeVar("Answer")


class Asked(NamedTuple):
    """How services are asked, and for which model: the default one where none is named, in its highest version."""

    timeout: float = 10.0  # seconds to wait for an answer
    api_key: str = ""
    name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class _Model:
    manifest: Manifest
    baseline: Baseline


def print_stats(url: str, asked: Asked, console: PlainConsole | None = None) -> None:
    """Asks the service at `url` and prints one row per layer.

    Raises:
        SettingError: that is no address.
        Unavailable: nothing that speaks this protocol answers there, or it does not answer this.
    """
    stats = ask(url, "/norm-stats", lambda client: client.norm_stats(model=asked.name, version=asked.version), asked)
    others = others_than(stats, url, asked)
    show(stats, console or make_console(), f"also served: {others}; --name and --version choose" if others else "")


def others_than(stats: NormStatsResponse, url: str, asked: Asked) -> str:
    """The models that are served beside this one, in words; none where the service does not say."""
    try:
        with client_of(url, asked._replace(timeout=min(asked.timeout, SHORT))) as client:
            models = client.ready().models
    except AddNormClientError:
        return ""
    shown = stats.model, stats.version
    others = [(name, version) for name in models for version in models[name] if (name, version) != shown]
    return ", ".join(f"{name} version {version}" for name, version in others)


def print_merged(sources: list[str], model: Path, asked: Asked, console: PlainConsole | None = None) -> None:
    """Merges states and prints them as one service's.

    Args:
        sources: addresses of services, or files that GET /norm-stats/state wrote.
        model: the artifact that they belong to.

    Raises:
        StateError: a state cannot be read, belongs to another artifact, or is named twice.
        Unavailable: a service does not answer.
    """
    if not sources:
        raise StateError("There is nothing to merge: name addresses of services, or files with their states.")
    artifact = read_artifact(model)
    merged = StateDocument.of(artifact.manifest, Span(inf, -inf), NormState.empty(artifact.manifest.layers))
    places: dict[bytes, int] = {}
    for place, source in enumerate(sources):
        content = read_state(source, asked)
        first = min(places.setdefault(content, place), sources.index(source))  # what a service tells goes on changing
        if first != place:
            raise StateError(
                f"{source} is the same state as {sources[first]}, expected each state once: leave one out."
            )
        document = StateDocument.from_json(content, source)
        merged = merged.merge(document.check(artifact.manifest, source))
    explained = _Model(artifact.manifest, read_baseline(artifact))
    report = all_layers(explained, Observed.of_document(merged))
    show(NormStatsResponse.model_validate(report.model_dump()), console or make_console())


def read_state(source: str, asked: Asked) -> bytes:
    if source.startswith(("http://", "https://")):
        named = {"model": asked.name, "version": asked.version}
        return ask(source, "/norm-stats/state", lambda client: client.state(**named), asked)
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise StateError(
            f"{source} cannot be read ({error}): name a file with a state, or a service's address."
        ) from error


def client_of(url: str, asked: Asked) -> Client:
    return Client(url, api_key=asked.api_key, timeout=asked.timeout, retries=Retries(attempts=1))


def ask(url: str, path: str, what: Callable[[Client], Answer], asked: Asked) -> Answer:
    """What the service at `url` answers, asked once; raises Unavailable where none does."""
    if "?" in url:
        raise SettingError(
            f"{url} is more than an address: leave out what begins with ?, and name a model with --name."
        )
    place = url.rstrip("/") + path
    try:
        with client_of(url, asked) as client:
            return what(client)
    except AddNormHTTPError as error:
        raise Unavailable(f"{place} answers {refusal(error)}.") from error
    except AddNormAnswerError as error:
        raise Unavailable(f"{place} answers with something else than statistics: check the address.") from error
    except (AddNormConnectionError, httpx.InvalidURL) as error:
        why = error.__cause__ or error
        raise Unavailable(f"{place} does not answer ({why}): give the address of a running `addnorm serve`.") from error


def refusal(error: AddNormHTTPError) -> str:
    """Why a service does not answer, and what to do."""
    status = f"{error.status} {httpx.codes.get_reason_phrase(error.status)}"
    if error.status == httpx.codes.UNAUTHORIZED:
        return f"{status}: pass --api-key with one of its keys"
    if error.code:  # the service's own
        return f"{status}: {error.message.removesuffix('.')}"
    return f"{status}: give the address of a running `addnorm serve`"
