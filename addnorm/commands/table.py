"""A service's statistics as a table, with the verdict below."""

from rich import box
from rich.table import Column, Table

from addnorm_client.models import LayerDrift, LayerStatistics, NormStatsResponse, Summary
from runtime.console import PlainConsole

ENDLESS = 10_000  # columns of a file or a pipe, where nothing is to be cut


def make_console() -> PlainConsole:
    """Prints to standard output: as wide as the terminal, or without an end where it is none."""
    console = PlainConsole()
    return console if console.file.isatty() else PlainConsole(width=ENDLESS)


def show(stats: NormStatsResponse, console: PlainConsole, note: str = "") -> None:
    """Prints what was counted, a note where there is one, the table, and at last the verdict."""
    console.print(
        f"{stats.model} version {stats.version}: {stats.requests:,} requests, {stats.tokens:,} tokens "
        f"since {stats.since}; baseline {stats.baseline.requests:,} requests, {stats.baseline.tokens:,} tokens",
    )
    if note:
        console.print(note)
    console.print(fitting_table(stats, console))
    console.print(f"{stats.verdict.state}: {stats.verdict.sentence}")


def fitting_table(stats: NormStatsResponse, console: PlainConsole) -> Table:
    """The table; without the baseline's columns where the terminal is too narrow for them."""
    table = make_table(stats)
    needed = console.measure(table, options=console.options.update(max_width=ENDLESS)).maximum
    return table if needed <= console.width else make_table(stats, narrow=True)


def make_table(stats: NormStatsResponse, narrow: bool = False) -> Table:
    """One row per layer: mean ± std of the token means and variances, live and baseline, and the layer's drift."""
    columns = ("mean, live", "variance, live") if narrow else ("mean, live", "baseline", "variance, live", "baseline")
    numbers = [Column(name, no_wrap=True) for name in (*columns, "score / limit")]
    # where even this is too wide, names go on below: no number is cut
    table = Table(Column("layer", overflow="fold", no_wrap=not narrow), *numbers, box=box.SIMPLE_HEAD)
    table.padding = (0, 0, 0, 0) if narrow else (0, 1, 0, 1)
    table.show_edge = not narrow
    for layer in (stats.input, *stats.layers, stats.output):
        if layer is None:
            continue
        if isinstance(layer, LayerStatistics):
            live, baseline = layer.live, layer.baseline
            pairs = (live.mean, baseline.mean), (live.variance, baseline.variance)
            cells = [spread(each) for pair in pairs for each in (pair[:1] if narrow else pair)]
        else:
            cells = [""] * len(columns)
        table.add_row(layer.name, *cells, standing(layer.drift))
    return table


def standing(drift: LayerDrift) -> str:
    if drift.score is None or drift.threshold is None:
        return "-"
    return f"{drift.score:.1f} / {drift.threshold:.1f}" + (" drift" if drift.state == "drift" else "")


def spread(summary: Summary | None) -> str:
    return f"{summary.mean:.3g} ± {summary.std:.2g}" if summary else "-"
