"""The servers that are compared: how each is started and asked, and where its embeddings are."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adopted.workloads import BENCH, IN_BF16, PLAIN, ROOT, SOURCE, WORK
from benchmarks.serving.processes import Process

OURS, BF16 = "addnorm", "addnorm-bf16"
INSTALL = """{name} is not installed at {program}; install it by
  python3 -m venv .bench/{environment}
  .bench/{environment}/bin/pip install --require-hashes --no-deps -r requirements/bench-{environment}.txt
  .bench/{environment}/bin/pip install --no-deps -r requirements/torch.txt
or choose others by --peer."""


def plain_body(texts: Sequence[str]) -> Any:
    return {"inputs": list(texts)}


def openai_body(texts: Sequence[str]) -> Any:
    return {"model": "adopted", "input": list(texts)}


def plain_embeddings(answer: Any) -> list[list[float]]:
    found: list[list[float]] = answer["embeddings"]
    return found


def addnorm_embeddings(answer: Any) -> list[list[float]]:
    return [row["embedding"] for row in answer["embeddings"]]


def openai_embeddings(answer: Any) -> list[list[float]]:
    return [row["embedding"] for row in sorted(answer["data"], key=lambda row: int(row["index"]))]


@dataclass(frozen=True, slots=True)
class Server:
    """One server.

    Attributes:
        command: argv, with `{artifact}`, `{bf16}`, `{source}` and `{port}` where those go.
        environment: folder below .bench/ of its own environment; empty for this project's.
        body: the JSON of a request for these texts; `embeddings` finds theirs in the answer's.
    """

    name: str
    command: tuple[str, ...]
    environment: str = ""
    path: str = "/embed"
    body: Callable[[Sequence[str]], Any] = plain_body
    embeddings: Callable[[Any], list[list[float]]] = plain_embeddings

    @property
    def python(self) -> Path:
        return BENCH / self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    def request(self, texts: Sequence[str]) -> str:
        return json.dumps(self.body(texts))

    def check_installed(self) -> None:
        if not self.python.exists():
            refusal = INSTALL.format(name=self.name, program=self.python, environment=self.environment)
            raise SystemExit(refusal)

    def start(self, artifact: Path, port: int) -> Process:
        """Starts it on the first core with one thread; its output goes to a log below .bench/adopted/."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ADDNORM_")}
        added = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        }
        values = {
            "artifact": str(artifact),
            "bf16": str(artifact.with_name(IN_BF16)),
            "source": str(SOURCE),
            "plain": str(PLAIN),
            "port": port,
        }
        command = [str(self.python), *(part.format(**values) for part in self.command)]
        return Process(command, kept | added, WORK / f"{self.name}.log")


ADDNORM = ("-m", "addnorm", "serve", "--model", "{artifact}", "--port", "{port}", "--workers", "1", "--threads", "1")
INFINITY = (
    str(BENCH / "infinity/bin/infinity_emb"),
    "v2",
    "--model-id",
    "{source}",
    "--engine",
    "torch",
    "--device",
    "cpu",
)
SERVERS = (
    Server(OURS, ADDNORM, embeddings=addnorm_embeddings),
    Server(BF16, tuple(part.replace("artifact", "bf16") for part in ADDNORM), embeddings=addnorm_embeddings),
    Server(
        "infinity",
        (
            *INFINITY,
            "--batch-size",
            "32",
            "--dtype",
            "float32",
            "--no-model-warmup",
            "--served-model-name",
            "adopted",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
        ),
        "infinity",
        "/embeddings",
        openai_body,
        openai_embeddings,
    ),
    Server("sentence", ("-m", "benchmarks.adopted.servers.sentence_server", "{source}", "{port}"), "sentence"),
    Server("padded", ("-m", "benchmarks.adopted.servers.padded_server", "{source}", "{plain}", "{port}")),
)


def chosen(names: Sequence[str]) -> list[Server]:
    """The servers of these names, all where there are none.

    Raises:
        SystemExit: one is unknown or not installed.
    """
    known = {server.name: server for server in SERVERS}
    if unknown := set(names) - known.keys():
        raise SystemExit(f"There is no server {min(unknown)!r}, expected some of {', '.join(known)}.")
    found = [known[name] for name in known if not names or name in names]
    for server in found:
        server.check_installed()
    return found
