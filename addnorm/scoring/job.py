"""A job: scores files from their first row to the report, and says how far it is."""

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from addnorm.scoring.chunks import read_chunks
from addnorm.scoring.output import REPORT, STATE, Format, Layout, Writer, open_writer, written_whole
from addnorm.scoring.parquet import id_type
from addnorm.scoring.processes import score_chunks
from addnorm.scoring.scorer import Options, Scored, columns_of_answers
from runtime.artifact import Artifact
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import DataError
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.state import NormState
from runtime.statistics.windows import Span
from runtime.store.document import StateDocument
from service.norm_stats.report import Observed, all_layers
from service.schemas.norm_stats import NormStatsResponse

TOLD = 1000  # skipped rows, and empty files, that the report lists

Progress = Callable[[int, int], None]  # bytes that were read, rows that were scored


@dataclass(frozen=True, slots=True)
class Job:
    """What to score, and where to.

    Attributes:
        files: of one format or of several, in their order.
        several: whether a directory was named.
        ray: whether a cluster scores.
        skip_bad: whether to go on without rows that cannot be scored.
    """

    files: list[Path]
    several: bool
    out: Path
    format: Format
    options: Options
    processes: int = 1
    ray: bool = False
    skip_bad: bool = False
    overwrite: bool = False


@dataclass(slots=True)
class Tally:
    """What became of the rows so far.

    Attributes:
        empty: files without rows; known at the end.
    """

    rows: int = 0
    truncated: int = 0
    skipped: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, scored: Scored) -> None:
        self.rows += len(scored.answers)
        self.truncated += scored.truncated
        self.skipped += len(scored.chunk.faults)
        room = TOLD - len(self.faults)
        self.faults += [
            {"file": scored.chunk.file, scored.chunk.unit: scored.chunk.lines[place], "reason": reason}
            for place, reason in sorted(scored.chunk.faults.items())[:room]
        ]

    def told(self) -> dict[str, Any]:
        """As the report says it."""
        return {
            "rows": self.rows,
            "scored": self.rows - self.skipped,
            "truncated": self.truncated,
            "skipped": self.skipped,
            "skipped_rows": self.faults,
            "empty_files": self.empty[:TOLD],
        }


@dataclass(frozen=True, slots=True)
class Model:
    manifest: Manifest
    baseline: Baseline


def run_job(job: Job, artifact: Artifact, progress: Progress) -> tuple[NormStatsResponse, Tally]:
    """Scores all rows, and writes predictions, report and state.

    Raises:
        AddNormError: it cannot be done; nothing was written, and what was there is as it was.
    """
    layout = Layout(columns_of_answers(artifact.manifest, job.options.top_k), job.options.columns.id, job.several)
    model = Model(artifact.manifest, read_baseline(artifact))
    with written_whole(job.out, job.overwrite) as folder:
        known = id_type(job.files[0], job.options.columns)
        types = {layout.names[-1]: known} if known is not None else {}
        with closing(open_writer(folder, job.format, layout, types)) as writer:
            document, tally = score_all(job, model, layout, writer, progress)
        report = all_layers(model, Observed.of_document(document))
        told = report.model_dump(mode="json", exclude_unset=True) | {"scoring": tally.told()}
        (folder / REPORT).write_bytes(to_json(told))
        (folder / STATE).write_bytes(to_json(document.to_dict()))
    return report, tally


def score_all(
    job: Job, model: Model, layout: Layout, writer: Writer, progress: Progress
) -> tuple[StateDocument, Tally]:
    """Writes the predictions; returns what the norms saw of all rows, and what became of them."""
    started, tally, seen = time.time(), Tally(), set[str]()
    state, deep = NormState.empty(model.manifest.layers), DeepState.empty(model.manifest.layers)
    with closing(score(job)) as found:  # which ends its processes, whatever happens here
        for scored in found:
            if scored.chunk.faults and not job.skip_bad:
                refuse(scored)
            tally.add(scored)
            seen.add(scored.chunk.file)
            state, deep = state.merge(scored.state.expand()), deep.merge(scored.deep)
            writer.write(layout.rows(scored))
            progress(scored.chunk.read, tally.rows)
    if tally.rows == tally.skipped:
        raise DataError(none_scored(job, tally))
    tally.empty = [str(file) for file in job.files if str(file) not in seen]
    return StateDocument.of(model.manifest, Span(started, time.time()), state, deep), tally


def score(job: Job) -> Generator[Scored, None, None]:
    if job.ray:
        from addnorm.scoring.ray_data import score_on_ray

        return score_on_ray(job.files, job.options, job.processes)
    return score_chunks(read_chunks(job.files, job.options.columns), job.options, job.processes)


def refuse(scored: Scored) -> None:
    """Raises DataError about the first row that cannot be scored."""
    place, reason = min(scored.chunk.faults.items())
    raise DataError(
        f"{scored.chunk.file}, {scored.chunk.unit} {scored.chunk.lines[place]}: {reason}; "
        "mend it, or pass --skip-bad to go on without such rows."
    )


def none_scored(job: Job, tally: Tally) -> str:
    where = job.files[0].parent if job.several else job.files[0]
    if not tally.rows:
        return f"{where} has no rows: expected at least one."
    return f"{where} has no row that can be scored; of the first: {tally.faults[0]['reason']}."
