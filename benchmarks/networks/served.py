"""How fast a network is served to 32 clients over binary tensors, beside ONNX Runtime without a server."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.adopted.load import ClosedLoop
from benchmarks.networks.shapes import INPUT, OUTPUT, Rows
from benchmarks.serving.processes import LOAD_CORE, SERVICE_CORE, Process
from runtime.artifact import Artifact
from service.sockets import listen

PORT, CLIENTS, BATCHES, WARM_UP = 18390, 32, (1, 2, 4, 8, 16, 32), 64
START_TIMEOUT, SAME = 60.0, 1e-4  # seconds; of a score, relative and absolute
LENGTH = b"inference-header-content-length: "


class Limit:
    """The network's own file on the service's core: this process moves there while it runs.

    Attributes:
        batch: rows in a run, with which it is the fastest.
    """

    def __init__(self, session: ort.InferenceSession, rows: Rows) -> None:
        self.session, self.rows = session, rows
        self.batch = max(BATCHES, key=self.rate)

    def rate(self, batch: int) -> float:
        """Rows a second."""
        os.sched_setaffinity(0, {SERVICE_CORE})
        try:
            started = time.perf_counter()
            for start in range(0, len(self.rows), batch):
                self.session.run([OUTPUT], {INPUT: self.rows[start : start + batch]})
            return len(self.rows) / (time.perf_counter() - started)
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})


class Service:
    """The artifact behind HTTP, one worker and one thread; it only runs while it is measured."""

    def __init__(self, artifact: Artifact, rows: Rows, expected: Rows, log: Path) -> None:
        self.expected = expected
        self.requests = [request(row, str(artifact.path.parent.name)) for row in rows]
        options = ("--port", str(PORT), "--workers", "1", "--threads", "1", "--max-body-bytes", str(1 << 24))
        command = [sys.executable, "-m", "addnorm", "serve", "--model", str(artifact.path), *options]
        listen("127.0.0.1", PORT).close()  # what a server that is left over answers would be measured
        self.process = Process(command, dict(os.environ), log)
        sent = {"name": INPUT, "datatype": "FP32", "shape": [1, *rows.shape[1:]], "data": rows[0].ravel().tolist()}
        path = f"/v2/models/{artifact.path.parent.name}/infer"
        try:
            self.process.wait_for_answer(PORT, path, json.dumps({"inputs": [sent]}), START_TIMEOUT)
        except BaseException:
            self.process.stop()
            raise
        ClosedLoop(PORT, self.requests[:WARM_UP], CLIENTS).run()
        self.process.pause()

    def rate(self) -> float:
        """Rows a second.

        Raises:
            SystemExit: an answer is not what the network gives.
        """
        self.process.resume()
        try:
            answers = ClosedLoop(PORT, self.requests, CLIENTS).run()
        finally:
            self.process.pause()
        for answer, wanted in zip(answers, self.expected, strict=True):
            head, _, body = answer.response.partition(b"\r\n\r\n")
            skipped = int(head.lower().partition(LENGTH)[2].partition(b"\r\n")[0] or len(body))
            if answer.status != 200 or not np.allclose(np.frombuffer(body[skipped:], "<f4"), wanted, SAME, SAME):
                raise SystemExit(f"A row was answered with status {answer.status} and {body[:300]!r}, not as expected.")
        return len(answers) / max(answer.received for answer in answers)


def request(row: Rows, model: str) -> bytes:
    """A row as a binary tensor, asking for the scores as one."""
    given = {
        "name": INPUT,
        "datatype": "FP32",
        "shape": [1, *row.shape],
        "parameters": {"binary_data_size": row.nbytes},
    }
    wanted = {"name": OUTPUT, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1", f"Host: 127.0.0.1:{PORT}", "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + row.nbytes}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + head + row.tobytes()
