"""A soak: all kinds of requests for a while, good and bad; memory, descriptors and threads do not grow."""

import json
import os
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.reliability.faults import Clients
from benchmarks.reliability.service import Service, serving

WARM = 15.0  # seconds after which memory is compared with
GROWTH = 10  # MiB of all processes together that are noise
PAGE = os.sysconf("SC_PAGE_SIZE")
TENSOR = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["hi", "my card is lost"]}
REQUESTS: list[tuple[str, bytes | None]] = [
    ("/predict", b'{"inputs": ["hi", "my card is lost", "%s"]}' % (b"words " * 300)),
    ("/embed", b'{"inputs": ["hi", "my card is lost"]}'),
    ("/v1/embeddings", b'{"input": "hi", "model": "intents"}'),
    ("/v2/models/intents/infer", json.dumps({"inputs": [TENSOR]}).encode()),
    ("/v2/models/nothing/infer", b"{}"),
    ("/predict", b'{"inputs": [1, 2'),
    ("/predict", b'{"inputs": "%s"}' % (b"x" * (2 << 20))),
    ("/norm-stats?window=10m", None),
    ("/norm-stats/history", None),
    ("/traffic", None),
    ("/metrics", None),
    ("/nowhere", None),
]


class Mixture(threading.Thread):
    """Asks for everything that there is, and leaves in the middle of some requests."""

    def __init__(self, service: Service, seed: int, ended: threading.Event) -> None:
        super().__init__()
        self.service, self.rng, self.ended = service, random.Random(seed), ended
        self.found = Counter[str]()

    def run(self) -> None:
        while not self.ended.is_set():
            path, body = self.rng.choice(REQUESTS)
            try:
                if self.rng.random() < 0.2:
                    self._leave(path, body or b"{}")
                else:
                    self.service.ask(path, body)
                    self.found["answered"] += 1
            except (OSError, ValueError):  # /metrics is no JSON; a body that is too large is refused while it is sent
                self.found["other answers"] += 1

    def _leave(self, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=20) as connection:
            connection.sendall((head + body)[: self.rng.randrange(1, len(head) + len(body) + 1)])
        self.found["left"] += 1


def usage(service: Service) -> tuple[float, int, int]:
    """Memory in MiB, descriptors, and threads, of all processes together."""
    processes = [Path(f"/proc/{pid}") for pid in {service.process.pid, *service.workers}]
    pages = sum(int((process / "statm").read_text().split()[1]) for process in processes)
    descriptors = sum(len(list((process / "fd").iterdir())) for process in processes)
    threads = sum(len(list((process / "task").iterdir())) for process in processes)
    return pages * PAGE / 2**20, descriptors, threads


def soak(seconds: int = 120) -> Counter[str]:
    """Asks for everything for so long; what is used at the end is compared with what was used after WARM seconds."""
    ended, memory = threading.Event(), list[float]()
    with serving("--workers", "2") as service, Clients(service, 2, pause=0.002) as asking:
        mixtures = [Mixture(service, seed, ended) for seed in range(2)]
        for mixture in mixtures:
            mixture.start()
        time.sleep(WARM)
        for _ in range(seconds):
            memory.append(usage(service)[0])
            time.sleep(1.0)
        ended.set()
        for mixture in mixtures:
            mixture.join()
            asking.found.update(mixture.found)
        asking.found.update(growth(memory))
        for statuses in service.ask("/traffic")["total"]["requests"].values():
            asking.found["5xx"] += sum(count for status, count in statuses.items() if int(status) >= 500)
        asking.found["tracebacks"] = service.tracebacks
        _, asking.found["descriptors"], asking.found["threads"] = usage(service)
    return asking.found


def growth(memory: list[float]) -> Counter[str]:
    """By how many MiB the last third of the samples is above the first."""
    third = max(1, len(memory) // 3)
    grown = round(float(np.median(memory[-third:]) - np.median(memory[:third])))
    return Counter({"MiB in the end": round(memory[-1]), "MiB grown": grown, "grows": int(grown > GROWTH)})
