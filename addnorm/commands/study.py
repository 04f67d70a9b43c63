"""`addnorm study`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings
from rich.table import Table

from runtime.console import PlainConsole
from runtime.errors import DataError, SettingError
from runtime.options import option_config

if TYPE_CHECKING:
    from studies.claim import Claim
    from studies.runner import Study as Runner

DOCUMENT = Path("docs/study.md")


class Study(BaseSettings):
    """Measures the notes' claims about normalization, and writes docs/study.md.

    What was run is kept and not run again: with neither --quick nor --full, what is missing for the first three seeds.
    """

    model_config = option_config("addnorm study")

    quick: bool = False
    """Three seeds: exploratory, half an hour on two cores. This is what is done where nothing is said."""
    full: bool = False
    """Ten seeds; an hour or two on two cores."""
    only: str = Field("", pattern=r"^(|C\d+(,C\d+)*)$")
    """Claims, separated by commas: C4,C9. All, where none is named."""
    one: bool = False
    """Run one cell of each, and print what it measures; nothing is kept."""
    results: Path | None = None
    """Folder with the cells that were run; that of this package where none is named."""
    document: Path = DOCUMENT
    """Document to write; its pictures go to img/study beside it."""
    data: Path = Path("data")
    """Folder of downloaded data sets: C16 and C18 read digits that were written with a pen, and spoken."""
    processes: int = Field(0, ge=0, le=1024)
    """Cells that run at a time; 0 is one per CPU that this may use."""

    def cli_cmd(self) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # a cell has one core
        os.environ["ADDNORM_DATA"] = str(self.data)  # for the processes that run cells
        from studies.cells import KEPT, Cells
        from studies.claim import FULL, QUICK
        from studies.claims import CLAIMS
        from studies.report import write
        from studies.runner import Study as Runner

        if self.quick and self.full:
            raise SettingError("--quick and --full are both there: say one of them.")
        console, claims = PlainConsole(), self.claims()
        if self.one:
            show_one(claims, console)
            return
        runner, failed = Runner(claims, FULL if self.full else QUICK, self.results or KEPT), None
        try:
            runner.run(console, self.processes or None)
        except KeyboardInterrupt:
            console.print("Interrupted; the same command goes on from here.")
            raise
        except DataError as error:  # what there is, is written all the same
            failed = error
        write([Cells(claim, self.results or KEPT) for claim in CLAIMS.values()], self.document)
        console.print(f"{self.document} is written")
        console.print(table_of(runner))
        if failed is not None:
            raise failed

    def claims(self) -> "list[Claim]":
        """Those that are asked for."""
        from studies.claims import CLAIMS

        numbers = self.only.split(",") if self.only else list(CLAIMS)
        if unknown := [number for number in numbers if number not in CLAIMS]:
            raise SettingError(f"only names {unknown[0]}, which is no claim: expected some of {', '.join(CLAIMS)}.")
        return [CLAIMS[number] for number in numbers]


def show_one(claims: "list[Claim]", console: PlainConsole) -> None:
    """Runs the first cell of each claim, on one core as in a study, and prints its measures."""
    import torch

    from studies.claim import QUICK, Results
    from studies.runner import run_cell

    torch.set_num_threads(1)
    for claim in claims:
        cell = next(iter(claim.cells(Results({}), QUICK)))
        started = time.perf_counter()
        measures = run_cell(claim.number, cell)
        console.print(f"{claim.number} {cell.key}, {time.perf_counter() - started:.1f} s")
        for name, value in measures.items():
            console.print(f"  {name} {tell(value)}")


def tell(value: float | list[float]) -> str:
    return ", ".join(map(tell, value)) if isinstance(value, list) else f"{value:.5g}"


def table_of(runner: "Runner") -> Table:
    """A line a claim."""
    from studies.report import MARKS, seeds_of
    from studies.verdicts import judge

    table = Table("", "claim", "verdict", "runs")
    for file in runner.files:
        claim = file.claim
        if seeds := seeds_of(claim, file.results):
            finding = judge(claim, file.results, seeds)
            table.add_row(claim.number, claim.title, MARKS[finding.verdict], "full" if finding.full else "exploratory")
        else:
            table.add_row(claim.number, claim.title, "not run yet", "")
    return table
