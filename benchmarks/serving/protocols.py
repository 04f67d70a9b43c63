"""What the Open Inference Protocol costs over gRPC and over HTTP, and an idle gRPC server beside HTTP.

    python -m benchmarks.serving.protocols [--rounds 10]        needs wrk, h2load (nghttp2-client) and two cores

One core serves, the other one asks, with 16 requests in flight; one text a request, one output, statistics on. The
reference is an empty handler of grpc.aio, which answers the same message with one that is ready.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import grpc
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.serving.processes import LOAD_CORE, Process, rollup
from service.api.v2.grpc.messages import InferRequest, InferResponse
from service.settings import EMBEDDED

CLIENTS, SECONDS, WARM = 16, 3, 1
TEXT = "what is my account balance today"
SERVICE = "inference.GRPCInferenceService"
MODEL = EMBEDDED.parent.name
OIP = f"/v2/models/{MODEL}/infer"
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
BODIES = {
    OIP: json.dumps({"inputs": [TENSOR], "outputs": [{"name": "label"}]}),
    "/predict": json.dumps({"inputs": [TEXT]}),
}
LUA = """wrk.method = "POST"
wrk.body = 'BODY'
wrk.headers["Content-Type"] = "application/json"
"""
EMPTY, BOTH, ALONE = "empty grpc.aio handler", "with gRPC", "without gRPC"
PORTS = {EMPTY: (0, 18301), BOTH: (18302, 18303), ALONE: (18304, 0)}


async def serve_empty(port: int) -> None:
    answer = InferResponse(model_name=MODEL)
    answer.outputs.add(name="label", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"balance")

    async def handle(_request: object, _context: object) -> object:
        return answer

    method = grpc.unary_unary_rpc_method_handler(handle, InferRequest.FromString, InferResponse.SerializeToString)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def command(name: str) -> list[str]:
    http, over_grpc = PORTS[name]
    if name == EMPTY:
        return [sys.executable, "-m", "benchmarks.serving.protocols", "--serve-empty", str(over_grpc)]
    ports = ["--port", str(http), *(["--grpc-port", str(over_grpc)] if over_grpc else [])]
    return [sys.executable, "-m", "addnorm", "serve", "--workers", "1", "--threads", "1", "--device", "cpu", *ports]


def framed(text: str) -> bytes:
    """A request as gRPC has it in a body: whether it is compressed, its length, and the message."""
    request = InferRequest(model_name=MODEL)
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
    request.outputs.add(name="label")
    content: bytes = request.SerializeToString()
    return b"\0" + len(content).to_bytes(4, "big") + content


def printed(*arguments: str) -> str:
    return subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), *arguments], check=True, capture_output=True, text=True
    ).stdout


def h2load(port: int, folder: Path) -> float:
    """Calls a second over gRPC, each of 16 connections with one in flight."""
    found = printed(
        "h2load", f"--duration={SECONDS}", f"--warm-up-time={WARM}", f"-c{CLIENTS}", "-m1", f"-d{folder / 'request'}",
        "-Hcontent-type: application/grpc", "-Hte: trailers", f"http://127.0.0.1:{port}/{SERVICE}/ModelInfer",
    )  # fmt: skip
    done = re.search(r"(\d+) done, (\d+) succeeded", found)
    if done is None or done[1] != done[2] or not int(done[1]):
        raise SystemExit(f"calls failed: {found}")
    return int(done[1]) / SECONDS


def wrk(port: int, path: str, folder: Path) -> float:
    """Requests a second over HTTP."""
    script = folder / "post.lua"
    script.write_text(LUA.replace("BODY", BODIES[path]))
    found = printed("wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "-s", str(script), f"http://127.0.0.1:{port}{path}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", found)
    if rate is None or "Non-2xx" in found:
        raise SystemExit(f"requests failed: {found}")
    return float(rate[1])


def cases(folder: Path) -> dict[str, tuple[str, Callable[[], float]]]:
    """What is measured: the process that answers, and how it is asked."""
    (folder / "request").write_bytes(framed(TEXT))
    both, alone = PORTS[BOTH], PORTS[ALONE]
    return {
        EMPTY: (EMPTY, lambda: h2load(PORTS[EMPTY][1], folder)),
        "gRPC, ModelInfer": (BOTH, lambda: h2load(both[1], folder)),
        f"HTTP, {OIP}": (BOTH, lambda: wrk(both[0], OIP, folder)),
        "HTTP, /predict, beside an idle gRPC server": (BOTH, lambda: wrk(both[0], "/predict", folder)),
        "HTTP, /predict, without one": (ALONE, lambda: wrk(alone[0], "/predict", folder)),
    }


def measure(rounds: int, folder: Path) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Rates of each case, a round after the other, and the bytes that each service has in memory when it starts."""
    processes = {name: Process(command(name), dict(os.environ), folder / name) for name in PORTS}
    try:
        memory = {}
        for name in (BOTH, ALONE):
            processes[name].wait_for_answer(PORTS[name][0], "/predict", BODIES["/predict"])
            memory[name] = sum(rollup(pid, "Rss:") for pid in processes[name].pids())
        asked = cases(folder)
        rates: dict[str, list[float]] = {name: [] for name in asked}
        for _ in track(range(rounds), "Rounds"):
            for name, (process, ask) in asked.items():
                for other in processes.values():
                    other.pause()
                processes[process].resume()
                rates[name].append(ask())
        return rates, memory
    finally:
        for process in processes.values():
            process.stop()


def report(rates: dict[str, list[float]], memory: dict[str, int]) -> None:
    """Medians, and ratios within a round."""

    def ratio(name: str, reference: str) -> str:
        ratios = sorted(a / b for a, b in zip(rates[name], rates[reference], strict=True))
        return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"

    idle, without = "HTTP, /predict, beside an idle gRPC server", "HTTP, /predict, without one"
    table = Table("", "a second", f"of the {EMPTY}, same round", f"of {without}")
    for name, found in rates.items():
        table.add_row(name, f"{median(found):,.0f}", ratio(name, EMPTY), ratio(name, without) if name == idle else "")
    Console().print(table)
    more = (memory[BOTH] - memory[ALONE]) / 2**20
    print(f"Memory: {memory[BOTH] / 2**20:.0f} MiB, {more:+.1f} by the gRPC server.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.protocols", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve-empty", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_empty:
        uvloop.run(serve_empty(options.serve_empty))
        return
    if missing := [tool for tool in ("wrk", "h2load", "taskset") if shutil.which(tool) is None]:
        raise SystemExit(f"{missing[0]} is missing: install the packages wrk and nghttp2-client.")
    with tempfile.TemporaryDirectory() as folder:
        report(*measure(options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
