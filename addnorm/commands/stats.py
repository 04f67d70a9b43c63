from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich import box
from rich.console import Console
from rich.table import Column, Table

from addnorm_client import AddNormAnswerError, AddNormConnectionError, AddNormHTTPError, Client, Retries
from addnorm_client.models import LayerDrift, NormStatsResponse, Summary
from runtime.artifact import read_artifact
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import SettingError, StateError, Unavailable
from runtime.manifest import Manifest
from runtime.options import option_config
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument
from service.norm_stats.report import Observed, all_layers
from service.settings import EMBEDDED


class Stats(BaseSettings):
    """Prints the normalization statistics of a running service; `merge A B ...` those of several states together.

    A state is the address of a service, or a file that GET /norm-stats/state wrote.
    """

    model_config = option_config("addnorm stats")

    of: CliPositionalArg[list[str]] = Field(["http://127.0.0.1:8000"], min_length=1)
    """Address of the service; or merge, and the states to merge."""
    model: Path = EMBEDDED
    """Merge: directory of the artifact that the states belong to."""
    timeout: float = Field(10.0, gt=0)
    """Seconds to wait for its answer."""
    api_key: str = ""
    """A key, where the service asks one of those who read."""

    def cli_cmd(self) -> None:
        what, *states = self.of
        if what == "merge":
            print_merged(states, self.model, self.timeout, api_key=self.api_key)
        elif states:
            raise SettingError(
                f"addnorm stats prints one service, and is given {len(self.of)} addresses: "
                "name one, or put `merge` before them."
            )
        else:
            print_stats(what, self.timeout, api_key=self.api_key)


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Model:
    manifest: Manifest
    baseline: Baseline


def print_stats(url: str, timeout: float, console: Console | None = None, api_key: str = "") -> None:
    """Asks the service at `url` and prints one row per layer.

    Raises:
        Unavailable: nothing that speaks this protocol answers there.
    """
    show(ask(url, "/norm-stats", Client.norm_stats, timeout, api_key), console or Console())


def print_merged(
    sources: list[str], model: Path, timeout: float, console: Console | None = None, api_key: str = ""
) -> None:
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
        content = read_state(source, timeout, api_key)
        first = min(places.setdefault(content, place), sources.index(source))  # what a service tells goes on changing
        if first != place:
            raise StateError(
                f"{source} is the same state as {sources[first]}, expected each state once: leave one out."
            )
        document = StateDocument.from_json(content, source)
        merged = merged.merge(document.check(artifact.manifest, source))
    explained = _Model(artifact.manifest, read_baseline(artifact))
    report = all_layers(explained, Observed.of_document(merged))
    show(NormStatsResponse.model_validate(report.model_dump()), console or Console())


def read_state(source: str, timeout: float, api_key: str) -> bytes:
    if source.startswith(("http://", "https://")):
        return ask(source, "/norm-stats/state", Client.state, timeout, api_key)
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise StateError(
            f"{source} cannot be read ({error}): name a file with a state, or a service's address."
        ) from error


def ask(url: str, path: str, what: Callable[[Client], Answer], timeout: float, api_key: str) -> Answer:
    """What the service at `url` answers, asked once; raises Unavailable where none does."""
    asked = url.rstrip("/") + path
    try:
        with Client(url, api_key=api_key, timeout=timeout, retries=Retries(attempts=1)) as client:
            return what(client)
    except AddNormHTTPError as error:
        status = f"{error.status} {httpx.codes.get_reason_phrase(error.status)}"
        raise Unavailable(f"{asked} answers {status}: give the address of a running `addnorm serve`.") from error
    except AddNormAnswerError as error:
        raise Unavailable(f"{asked} answers with something else than statistics: check the address.") from error
    except (AddNormConnectionError, httpx.InvalidURL) as error:
        why = error.__cause__ or error
        raise Unavailable(f"{asked} does not answer ({why}): give the address of a running `addnorm serve`.") from error


def show(stats: NormStatsResponse, console: Console) -> None:
    console.print(
        f"{stats.model} version {stats.version}: {stats.requests:,} requests, {stats.tokens:,} tokens "
        f"since {stats.since}; baseline {stats.baseline.requests:,} requests, {stats.baseline.tokens:,} tokens",
        highlight=False,
    )
    console.print(make_table(stats))
    console.print(f"{stats.verdict.state}: {stats.verdict.sentence}", highlight=False)


def make_table(stats: NormStatsResponse) -> Table:
    """One row per layer: mean ± std of the token means and variances, live and baseline, and the layer's drift."""
    columns = ("mean, live", "baseline", "variance, live", "baseline", "score / limit")
    table = Table(Column("layer", no_wrap=True), *columns, box=box.SIMPLE_HEAD, padding=(0, 1))
    if stats.input is not None:
        table.add_row(stats.input.name, "", "", "", "", standing(stats.input.drift))
    for layer in stats.layers:
        table.add_row(
            layer.name,
            spread(layer.live.mean),
            spread(layer.baseline.mean),
            spread(layer.live.variance),
            spread(layer.baseline.variance),
            standing(layer.drift),
        )
    if stats.output is not None:
        table.add_row(stats.output.name, "", "", "", "", standing(stats.output.drift))
    return table


def standing(drift: LayerDrift) -> str:
    if drift.score is None or drift.threshold is None:
        return "-"
    return f"{drift.score:.1f} / {drift.threshold:.1f}" + (" drift" if drift.state == "drift" else "")


def spread(summary: Summary | None) -> str:
    return f"{summary.mean:.3g} ± {summary.std:.2g}" if summary else "-"
