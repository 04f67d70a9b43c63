"""Faults while clients ask: workers killed, stopped and rolled, two services on one directory, silent clients."""

import http.client
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections import Counter

from benchmarks.reliability.service import TEXT, Service, serving


class Clients:
    """Clients in threads that ask one after the other on kept connections, and count what becomes of it."""

    def __init__(self, service: Service, count: int, pause: float = 0.0) -> None:
        self.service, self.pause = service, pause
        self.found, self.ended = Counter[str](), threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        connection = None
        while not self.ended.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=20)
                connection.request("POST", "/predict", TEXT)
                response = connection.getresponse()
                response.read()
                self.found["answered" if response.status == 200 else f"status {response.status}"] += 1
                if response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException):
                self.found["broken"] += 1
                connection = None
            if self.pause:
                time.sleep(self.pause)
        if connection is not None:
            connection.close()


def rolls(count: int = 25, clients: int = 24) -> Counter[str]:
    """Puts new workers in the place of all, again and again, under load: no request is to be lost."""
    with serving("--workers", "2") as service, Clients(service, clients) as asking:
        for _ in range(count):
            before = service.workers
            service.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while (service.workers & before or len(service.workers) != 2) and time.monotonic() < deadline:
                time.sleep(0.05)
            asking.found["rolls"] += not service.workers & before
            time.sleep(0.3)
    return asking.found


def kills(count: int = 100, seed: int = 1) -> Counter[str]:
    """Kills a worker again and again: only requests on its connections are lost, and counts are right."""
    rng = random.Random(seed)
    with serving("--workers", "2") as service:
        with Clients(service, 8, pause=0.005) as asking:
            for _ in range(count):
                time.sleep(1.2)  # one that ends sooner is not replaced at once
                while not (workers := sorted(service.workers)):
                    time.sleep(0.1)
                os.kill(rng.choice(workers), signal.SIGKILL)
                asking.found["kills"] += 1
            time.sleep(1.5)
        asking.found["counted beyond answered"] = service.ask("/norm-stats")["requests"] - asking.found["answered"]
        asking.found["workers"] = len(service.workers)
    return asking.found


def hangs(count: int = 3, seed: int = 1) -> Counter[str]:
    """Stops a worker (SIGSTOP): after five seconds, everybody is answered."""
    rng, found = random.Random(seed), Counter[str]()
    with serving("--workers", "2") as service:
        for _ in range(count):
            hung = rng.choice(sorted(service.workers))
            os.kill(hung, signal.SIGSTOP)
            time.sleep(6.0)
            found["still there"] += hung in service.workers
            for _ in range(20):
                try:
                    service.ask("/predict", TEXT, timeout=2.0)
                    found["answered"] += 1
                except OSError:
                    found["hung after 6 s"] += 1
    return found


def turns(requests: int = 200) -> Counter[str]:
    """Two services in turn on one directory: what both counted is kept."""
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as state:
        with serving("--workers", "1", state=state) as old:
            for _ in range(requests):
                old.ask("/predict", TEXT)
            with serving("--workers", "2", state=state) as new:
                for _ in range(7):
                    new.ask("/predict", TEXT)
                old.process.send_signal(signal.SIGTERM)
                old.process.wait(40)
                deadline = time.monotonic() + 10
                while new.ask("/norm-stats")["requests"] < requests + 7 and time.monotonic() < deadline:
                    time.sleep(0.2)
        with serving("--workers", "1", state=state) as again:
            found["counts kept"] = again.ask("/norm-stats")["requests"]
    found["counts lost"] = requests + 7 - found["counts kept"]
    return found


def silence(count: int = 2000) -> Counter[str]:
    """Connections that say nothing, half a head or half a body: all are closed in time, and others answered."""
    beginnings = [
        b"",
        b"POST /predict HTTP/1.1\r\nHost: x\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    ]
    found, worst = Counter[str](), 0.0
    with serving("--workers", "1", head_timeout="3", body_timeout="5") as service:
        held = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(count)]
        for number, each in enumerate(held):
            each.sendall(beginnings[number % len(beginnings)])
        ended = time.monotonic() + 9
        while time.monotonic() < ended:
            started = time.monotonic()
            service.ask("/predict", TEXT)
            worst = max(worst, time.monotonic() - started)
            time.sleep(0.02)
        for each in held:
            each.settimeout(0.01)
            try:
                while each.recv(1 << 16):
                    pass
                found["closed"] += 1
            except TimeoutError:
                found["never closed"] += 1
            except OSError:
                found["closed"] += 1
            each.close()
        found["worst answer, ms"] = round(1000 * worst)
        found["left in flight"] = service.settle()
    return found
