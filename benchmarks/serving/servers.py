"""The servers that benchmarks/serving/__main__.py compares: how each is started and asked, and where its labels are."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.closed_loop import Scenario
from benchmarks.serving.peers.classifier import MODEL_VARIABLE, PORT_VARIABLE
from benchmarks.serving.processes import Process

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".bench"  # git-ignored: environments of the peers, the benchmark's artifact, logs and results
OURS = "AddNorm"
PLAIN = "plain FastAPI"
BARE = "bare uvloop"
EVERY_CLASS = 150  # labels of clinc150


def plain_body(texts: Sequence[str]) -> Any:
    return {"inputs": list(texts)}


def plain_labels(answer: Any) -> list[str]:
    return [prediction["label"] for prediction in answer["predictions"]]


def v2_body(texts: Sequence[str]) -> Any:
    """A request of the Open Inference Protocol."""
    tensor = {"name": "text", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [tensor | {"parameters": {"content_type": "str"}}]}


def v2_labels(answer: Any) -> list[str]:
    return next(output["data"] for output in answer["outputs"] if output["name"] == "label")


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    Attributes:
        command: argv, with `{artifact}` and `{port}` where those go.
        body: the JSON of a request for these texts; `labels` finds theirs in the answer's.
        program: what must be there to start it.
    """

    name: str
    command: tuple[str, ...]
    program: Path = Path(sys.executable)
    path: str = "/predict"
    body: Callable[[Sequence[str]], Any] = plain_body
    labels: Callable[[Any], list[str]] = plain_labels

    def request(self, texts: Sequence[str]) -> str:
        return json.dumps(self.body(texts))

    def bodies(self, texts: Sequence[str], scenario: Scenario) -> list[str]:
        """The JSON of a scenario's requests for all texts, but for the last few where they fill none."""
        rows = scenario.rows
        bodies = [self.body(texts[start : start + rows]) for start in range(0, len(texts) - rows + 1, rows)]
        return [json.dumps(body | {"top_k": EVERY_CLASS} if scenario.every_class else body) for body in bodies]

    def start(self, artifact: Path, port: int, workers: int = 1) -> Process:
        """Starts it on the service's core; its output goes to a log below .bench/."""
        if not self.program.exists():
            raise SystemExit(f"{self.name} is not installed at {self.program}: run `make bench`, or leave it out.")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ADDNORM_")}
        added = {
            MODEL_VARIABLE: str(artifact),
            PORT_VARIABLE: str(port),
            "ADDNORM_DEVICE": "cpu",
            "ADDNORM_WORKERS": str(workers),
            "PYTHONPATH": str(ROOT),
            "TOKENIZERS_PARALLELISM": "false",
            "BENTOML_HOME": str(WORK / "bentoml-home"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
        command = [part.format(artifact=artifact, port=port) for part in self.command]
        return Process(command, kept | added, WORK / f"{port}.log")


def environment(name: str) -> Path:
    """The interpreter of a peer's own environment."""
    return WORK / name / "bin/python"


def peer(name: str) -> tuple[str, ...]:
    return (str(environment(name)), "-m", f"benchmarks.serving.peers.{name}_texts")


ADDNORM = (sys.executable, "-m", "addnorm", "serve", "--model", "{artifact}", "--port", "{port}")

BENTOML = (str(WORK / "bentoml/bin/bentoml"), "serve", "benchmarks.serving.peers.bentoml_texts:Texts")
SERVERS = (
    Server(OURS, ADDNORM),
    Server(BARE, (sys.executable, "-m", "benchmarks.serving.peers.bare_uvloop")),
    Server(PLAIN, (sys.executable, "-m", "benchmarks.serving.peers.plain_fastapi")),
    Server("MLServer", peer("mlserver"), environment("mlserver"), "/v2/models/texts/infer", v2_body, v2_labels),
    Server("LitServe", peer("litserve"), environment("litserve")),
    Server(
        "BentoML",
        (*BENTOML, "--host", "127.0.0.1", "--port", "{port}"),
        environment("bentoml"),
        labels=lambda answer: [prediction["label"] for prediction in answer],
    ),
)
PEERS = [server.name for server in SERVERS if server.name not in (OURS, BARE, PLAIN)]
