"""Spreads chunks over a cluster by Ray Data, and gives what they become in the order of the files.

A chunk's answers and state travel together. So a machine that is lost takes nothing with it: its chunks are scored
again, and each counts once.
"""

import logging
import os
import pickle
from collections.abc import Generator, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from addnorm.scoring.chunks import read_chunks, sizes
from addnorm.scoring.processes import attempt
from addnorm.scoring.scorer import Options, Scored
from addnorm.scoring.tables import Columns
from runtime.errors import AddNormError, SettingError

PLACE, CONTENT = "place", "content"  # columns of a block: file and row that a chunk begins with, and the pickled chunk


def score_on_ray(files: Sequence[Path], options: Options, processes: int) -> Generator[Scored, None, None]:
    """Scores files that every machine of the cluster sees under the same path, as it sees the model.

    The cluster is the one that `ray.init` finds: the one that RAY_ADDRESS names, else one of this machine.

    Args:
        processes: chunks that are scored at a time; 0 for as many as the cluster has CPUs.

    Raises:
        SettingError: Ray is not installed, or no cluster answers.
        AddNormError: what reading the files or opening the model raises.
    """
    try:
        import ray
    except ImportError:
        raise SettingError("--ray needs the ray extra: run `pip install 'ray[data]'`.") from None
    try:
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"No Ray cluster answers ({reason}): set RAY_ADDRESS, or start one.") from error
    last = (-1, 0)
    for row in dataset(files, options, processes).iter_rows():
        scored = pickle.loads(row[CONTENT])
        if isinstance(scored, Exception):
            raise scored
        place = tuple(row[PLACE])
        assert place > last, "Ray Data changed the order of the rows"
        last = place
        yield scored


def dataset(files: Sequence[Path], options: Options, processes: int) -> Any:
    """What the chunks of the files become, as a Ray dataset that is computed while it is read."""
    from ray.data import DataContext, read_datasource

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it would tell each execution's plan
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # else all chunks of a file would be one block, scored by one process
    # reading takes no CPU, so that it does not wait for scoring, and is not done by the same task
    read = read_datasource(make_source(files, options.columns), num_cpus=0, override_num_blocks=len(files))
    return read.map_batches(
        score_block,
        batch_size=None,
        batch_format="pyarrow",
        fn_args=(options,),
        num_cpus=1,
        num_gpus=1 if options.device in ("cuda", "tensorrt") else None,
        concurrency=processes or None,
    )


def make_source(files: Sequence[Path], columns: Columns) -> Any:
    """A Ray datasource with a task for each file."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Source(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int:
            return sum(sizes(files))

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            before = [0, *accumulate(sizes(files))]
            return [
                ReadTask(Reading(number, file, before[number], columns), unknown) for number, file in enumerate(files)
            ]

    return Source()


class Reading:
    """Reads a file as blocks of one chunk each; an error is handed on in the place of a chunk.

    Args:
        before: bytes of the files before it.
    """

    def __init__(self, number: int, file: Path, before: int, columns: Columns) -> None:
        self.number, self.file, self.before, self.columns = number, file, before, columns

    def __call__(self) -> Iterable[Any]:
        first = 1
        try:
            for chunk in read_chunks([self.file], self.columns):
                first = chunk.first
                chunk.read += self.before
                yield block((self.number, first), chunk)
        except AddNormError as error:
            yield block((self.number, first + 1), error)


def score_block(table: Any, options: Options) -> Any:
    """What the chunks of a block became."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    contents = [pickle.loads(content) for content in table[CONTENT].to_pylist()]
    found = [each if isinstance(each, Exception) else attempt(each, options) for each in contents]
    return table.set_column(1, CONTENT, [[pickle.dumps(each) for each in found]])


def block(place: tuple[int, int], content: object) -> Any:
    """One row of Arrow."""
    import pyarrow

    return pyarrow.table({PLACE: [list(place)], CONTENT: [pickle.dumps(content)]})
