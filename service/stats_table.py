"""The normalization statistics of a running service, as a table for a terminal."""

import httpx
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from runtime.errors import Unavailable
from service.schemas import LayerDrift, NormStatsResponse, Summary


def print_stats(url: str, timeout: float, console: Console | None = None) -> None:
    """Asks the service at `url` and prints one row per layer.

    Raises:
        Unavailable: nothing that speaks this protocol answers there.
    """
    console = console or Console()
    stats = fetch(url.rstrip("/") + "/norm-stats", timeout)
    console.print(
        f"{stats.model} version {stats.version}: {stats.requests:,} requests, {stats.tokens:,} tokens "
        f"since {stats.since}; baseline {stats.baseline.requests:,} requests, {stats.baseline.tokens:,} tokens",
        highlight=False,
    )
    console.print(make_table(stats))
    console.print(f"{stats.verdict.state}: {stats.verdict.sentence}", highlight=False)


def fetch(url: str, timeout: float) -> NormStatsResponse:
    try:
        response = httpx.get(url, timeout=timeout)
        response.raise_for_status()
        return NormStatsResponse.model_validate_json(response.content)
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}"
        raise Unavailable(f"{url} answers {status}: give the address of a running `addnorm serve`.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url} does not answer ({error}): give the address of a running `addnorm serve`.") from error
    except ValidationError as error:
        raise Unavailable(
            f"{url} answers with something else than normalization statistics: check the address."
        ) from error


def make_table(stats: NormStatsResponse) -> Table:
    """One row per layer: mean ± std of the token means and variances, live and baseline, and the layer's drift."""
    table = Table(Column("layer", no_wrap=True), "mean, live", "baseline", "variance, live", "baseline", "drift")
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
    return f"{drift.state} ({drift.score:.1f} / {drift.threshold:.1f})"


def spread(summary: Summary | None) -> str:
    return f"{summary.mean:.3g} ± {summary.std:.2g}" if summary else "-"
