"""`python -m benchmarks.scaling.ray_score`: scores a file on a Ray cluster of three nodes, of which one is killed.

The nodes are raylets of this machine (ray.cluster_utils), with a CPU each. What comes out is compared with what one
process makes of the same file: counts, verdict and predictions must be the same, figures within 1e-6.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field
from pydantic_settings import BaseSettings, CliApp
from rich.console import Console

from addnorm.scoring.chunks import find_files
from addnorm.scoring.job import Job, run_job
from addnorm.scoring.scorer import Options
from addnorm.scoring.tables import Columns
from runtime.artifact import Artifact, read_artifact
from runtime.options import option_config
from service.settings import EMBEDDED

NODES = 3
EXACT = 1e-6
TIMES = {"since", "window"}  # of the run
WORDS = ("card", "the balance", "please", "tomorrow", "a flight", "my bank", "what is", "cancel", "rain", "how much")


class Trial(NamedTuple):
    """What a cluster made of a file.

    Attributes:
        seconds: that one process and the cluster took.
        alive: nodes that were alive when the last row was scored.
        difference: the largest difference of a figure of the report, relative to the larger of it and 1.
        differences: what should be the same and is not; empty where all is well.
    """

    rows: int
    seconds: tuple[float, float]
    alive: int
    difference: float
    differences: list[str]


class RayScore(BaseSettings):
    """Scores made-up texts with one process and on a cluster that loses a node, and compares."""

    model_config = option_config("python -m benchmarks.scaling.ray_score")

    rows: int = Field(30_000, ge=1000)
    """Texts to score."""
    model: Path = EMBEDDED
    """Directory of the artifact."""

    def cli_cmd(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trial = lose_a_node(read_artifact(self.model), Path(folder), self.rows)
        one, cluster = trial.seconds
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"{trial.rows:,} rows: one process {one:.1f} s, {NODES} nodes {cluster:.1f} s")
        console.print(f"nodes alive at the end: {trial.alive} of {NODES}")
        console.print(f"largest difference of a figure: {trial.difference:.1e}")
        console.print("; ".join(trial.differences) or "counts, verdict and predictions are the same")


def lose_a_node(artifact: Artifact, folder: Path, rows: int) -> Trial:
    """Scores `rows` texts in `folder` twice: with one process, and on a cluster whose third node is killed midway."""
    import ray
    from ray.cluster_utils import Cluster

    source = write_texts(folder / "texts.jsonl", rows)
    started = time.perf_counter()
    run_job(job(artifact, source, folder / "one", ray=False), artifact, lambda *_: None)
    alone = time.perf_counter() - started
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        nodes = [cluster.add_node(**node) for _ in range(NODES - 1)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        started = time.perf_counter()

        def kill(_: int, scored: int) -> None:
            if scored >= rows / 4 and nodes:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                nodes.clear()
                while alive() == NODES:  # the cluster notices by missed heartbeats
                    time.sleep(0.1)

        counted = run_job(job(artifact, source, folder / "ray", ray=True), artifact, kill)[1]
        seconds = time.perf_counter() - started
        left = alive()
    finally:
        ray.shutdown()
        cluster.shutdown()
    one, other = (json.loads((folder / name / "report.json").read_text()) for name in ("one", "ray"))
    names = [name for name in ("requests", "tokens", "scoring") if one[name] != other[name]]
    names += ["verdict"] if one["verdict"]["state"] != other["verdict"]["state"] else []
    names += ["predictions"] if predictions(folder / "one") != predictions(folder / "ray") else []
    difference = farthest(one, other)
    names += [f"a figure by {difference:.1e}"] if difference > EXACT else []
    return Trial(counted.rows, (alone, seconds), left, difference, names)


def alive() -> int:
    """Nodes of the cluster that are."""
    import ray

    return sum(each["Alive"] for each in ray.nodes())


def job(artifact: Artifact, source: Path, out: Path, ray: bool) -> Job:
    options = Options(artifact.path, artifact.manifest.digest, Columns("text"))
    return Job(find_files(source), False, out, "jsonl", options, 0 if ray else 1, ray)


def write_texts(path: Path, rows: int) -> Path:
    """Texts of two to six phrases, each another one."""
    with path.open("w") as file:
        for number in range(rows):
            words = [WORDS[(number // len(WORDS) ** place) % len(WORDS)] for place in range(2 + number % 5)]
            file.write(json.dumps({"text": " ".join(words)}) + "\n")
    return path


def predictions(folder: Path) -> bytes:
    return (folder / "predictions.jsonl").read_bytes()


def farthest(one: Any, other: Any) -> float:
    """The largest difference between the numbers of two reports, but for times; infinite where their parts differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((farthest(one[name], other[name]) for name in one.keys() - TIMES), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(farthest, one, other), default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) / max(abs(one), 1.0)
    return 0.0 if one == other else float("inf")


if __name__ == "__main__":
    CliApp.run(RayScore)
