from dataclasses import dataclass
from math import inf
from pathlib import Path

import httpx
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliPositionalArg
from rich import box
from rich.console import Console
from rich.table import Column, Table

from runtime.artifact import read_artifact
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import StateError, Unavailable
from runtime.manifest import Manifest
from runtime.options import option_config
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument
from service.norm_stats.report import Observed, all_layers
from service.schemas.norm_stats import LayerDrift, NormStatsResponse, Summary
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
        from addnorm.commands.stats import print_merged, print_stats

        what, *states = self.of
        if what == "merge":
            print_merged(states, self.model, self.timeout, api_key=self.api_key)
        else:
            print_stats(what, self.timeout, api_key=self.api_key)


@dataclass(frozen=True, slots=True)
class _Model:
    manifest: Manifest
    baseline: Baseline


def print_stats(url: str, timeout: float, console: Console | None = None, api_key: str = "") -> None:
    """Asks the service at `url` and prints one row per layer.

    Raises:
        Unavailable: nothing that speaks this protocol answers there.
    """
    url = url.rstrip("/") + "/norm-stats"
    try:
        stats = NormStatsResponse.model_validate_json(fetch(url, timeout, api_key))
    except ValidationError as error:
        raise Unavailable(f"{url} answers with something else than statistics: check the address.") from error
    show(stats, console or Console())


def print_merged(
    sources: list[str], model: Path, timeout: float, console: Console | None = None, api_key: str = ""
) -> None:
    """Merges states and prints them as one service's.

    Args:
        sources: addresses of services, or files that GET /norm-stats/state wrote.
        model: the artifact that they belong to.

    Raises:
        StateError: a state cannot be read, or belongs to another artifact.
        Unavailable: a service does not answer.
    """
    if not sources:
        raise StateError("There is nothing to merge: name addresses of services, or files with their states.")
    artifact = read_artifact(model)
    merged = StateDocument.of(artifact.manifest, Span(inf, -inf), NormState.empty(artifact.manifest.layers))
    for source in sources:
        document = StateDocument.from_json(read_state(source, timeout, api_key), source)
        merged = merged.merge(document.check(artifact.manifest, source))
    explained = _Model(artifact.manifest, read_baseline(artifact))
    show(all_layers(explained, Observed.of_document(merged)), console or Console())


def read_state(source: str, timeout: float, api_key: str) -> bytes:
    if source.startswith(("http://", "https://")):
        return fetch(source.rstrip("/") + "/norm-stats/state", timeout, api_key)
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise StateError(
            f"{source} cannot be read ({error}): name a file with a state, or a service's address."
        ) from error


def show(stats: NormStatsResponse, console: Console) -> None:
    console.print(
        f"{stats.model} version {stats.version}: {stats.requests:,} requests, {stats.tokens:,} tokens "
        f"since {stats.since}; baseline {stats.baseline.requests:,} requests, {stats.baseline.tokens:,} tokens",
        highlight=False,
    )
    console.print(make_table(stats))
    console.print(f"{stats.verdict.state}: {stats.verdict.sentence}", highlight=False)


def fetch(url: str, timeout: float, api_key: str) -> bytes:
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        response = httpx.get(url, timeout=timeout, headers=headers)
        response.raise_for_status()
        return response.content
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise Unavailable(f"{url} answers {status}: give the address of a running `addnorm serve`.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url} does not answer ({error}): give the address of a running `addnorm serve`.") from error


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
