"""`addnorm score`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

from addnorm.commands.stopping import stopped_by_signals
from addnorm_client.models import NormStatsResponse
from runtime.console import PlainConsole, described
from runtime.errors import SettingError
from runtime.options import Device, option_config
from service.settings import EMBEDDED

if TYPE_CHECKING:  # what runs models is loaded only where the command runs
    from addnorm.scoring.job import Job, Tally
    from addnorm.scoring.output import Format
    from runtime.artifact import Artifact


class Score(BaseSettings):
    """Scores a file of texts, or a directory of such files: predictions, and a verdict on them, without a service.

    OUT gets predictions, report.json, which is what GET /norm-stats would answer, and state.json for `addnorm stats
    merge`.
    """

    model_config = option_config("addnorm score")

    source: CliPositionalArg[Path]
    """File that ends in .csv (with a header), .jsonl or .parquet, or a directory of such files."""
    out: Path
    """Directory to write to."""
    model: Path = EMBEDDED
    """Directory of the artifact."""
    text: str | None = None
    """Column of the text, `text` where it is not given; for a model of float sequences theirs, `features`."""
    text_pair: str | None = None
    """Column of the second text, for a model that reads pairs of texts."""
    id: str | None = None
    """Column that names a row in the predictions; its number where it is not given."""
    format: Literal["jsonl", "csv", "parquet"] | None = None
    """jsonl, csv or parquet, for the predictions; as the input is where it is not given."""
    top_k: int = Field(1, ge=1)
    """Classes to give for each row, best first."""
    device: Device = "auto"
    """auto, cpu, cuda or tensorrt; auto takes a GPU that works, else the CPU."""
    allow_fp32: bool = False
    """Score with a model in bf16 in fp32 where there is no bf16."""
    processes: int = Field(0, ge=0, le=1024)
    """Processes, each with one thread; 0 is one per CPU that this may use, but one if a GPU may be used."""
    ray: bool = False
    """Spread the work over the Ray cluster that RAY_ADDRESS names, whose machines all see FILE and model; needs the ray
    extra. Processes are then those of the cluster, 0 for all of its CPUs."""
    skip_bad: bool = False
    """Go on without rows that cannot be scored; the report counts and lists them."""
    overwrite: bool = False
    """Replace what was scored into OUT before."""

    def cli_cmd(self) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a process has one thread
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from addnorm.commands.table import make_console, show
        from runtime.artifact import read_artifact

        console = make_console()
        artifact = read_artifact(self.model)
        job = self.job(artifact)
        try:
            with stopped_by_signals():
                report, tally = run_with_bar(job, artifact, console)
        except KeyboardInterrupt:
            kept = "what was there is as it was" if job.out.exists() else "nothing was written"
            console.print(f"Interrupted: {kept} at {job.out}.", soft_wrap=True)
            raise
        show(report, console)
        if tally.empty:
            print(f"addnorm: {tell_empty(tally.empty)}", file=sys.stderr)
        console.print(tell(job, tally), soft_wrap=True)

    def job(self, artifact: "Artifact") -> "Job":
        """What these options ask for; raises SettingError or DataError where it cannot be."""
        from addnorm.scoring.chunks import find_files
        from addnorm.scoring.job import Job
        from addnorm.scoring.scorer import Options, check_inputs
        from addnorm.scoring.tables import Columns

        manifest = artifact.manifest
        usual = "features" if manifest.inputs.kind == "features" else "text"
        columns = Columns(self.text or usual, self.text_pair, self.id)
        check_inputs(manifest, columns)
        if self.top_k > 1 and manifest.task != "classification":
            raise SettingError(f"--top-k is for classifiers, {manifest.name} is none: leave it out.")
        files = find_files(self.source)
        kind = self.format or cast("Format", files[0].suffix.lower().removeprefix("."))
        options = Options(self.model, manifest.digest, columns, self.device, self.top_k, self.allow_fp32)
        return Job(
            files=files,
            several=self.source.is_dir(),
            out=self.out,
            format=kind,
            options=options,
            processes=self.processes if self.ray else self.count(),
            ray=self.ray,
            skip_bad=self.skip_bad,
            overwrite=self.overwrite,
        )

    def count(self) -> int:
        """How many processes."""
        from runtime.cpus import usable_cpus
        from runtime.graph.providers import may_use_gpu

        return self.processes or (1 if may_use_gpu(self.device) else usable_cpus())


def run_with_bar(job: "Job", artifact: "Artifact", console: PlainConsole) -> "tuple[NormStatsResponse, Tally]":
    """Runs the job, and shows how far it is where somebody looks."""
    from addnorm.scoring.chunks import sizes
    from addnorm.scoring.job import run_job

    columns = (described(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    total = sum(sizes(job.files))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("scoring", total=total)

        def progress(read: int, rows: int) -> None:
            bar.update(task, completed=read, description=f"{rows:,} rows scored")

        report, tally = run_job(job, artifact, progress)
    return NormStatsResponse.model_validate(report.model_dump()), tally


def tell_empty(files: list[str]) -> str:
    """That files of a directory had no rows, for a person."""
    if len(files) == 1:
        return f"{files[0]} has no rows, it was skipped."
    return f"{len(files):,} files have no rows, first {files[0]}; they were skipped: see empty_files in report.json."


def tell(job: "Job", tally: "Tally") -> str:
    """What was written, for a person."""
    parts = [f"{tally.rows - tally.skipped:,} rows scored"]
    parts += [f"{tally.truncated:,} of them truncated"] if tally.truncated else []
    parts += [f"{tally.skipped:,} skipped, see report.json"] if tally.skipped else []
    return f"{job.out}: {', '.join(parts)}."
