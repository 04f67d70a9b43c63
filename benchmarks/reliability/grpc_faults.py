"""Faults while clients ask over gRPC: workers killed and rolled. A call ends with an answer or with UNAVAILABLE."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc

from benchmarks.reliability.frames import tracebacks
from benchmarks.reliability.http2 import PATH
from benchmarks.reliability.proxy import free_port
from benchmarks.reliability.service import Service, serving
from service.api.v2.grpc.messages import InferRequest, InferResponse

DEADLINE = 20.0  # seconds of a call
AGAIN = 15.0  # seconds in which all clients are answered again
PAUSE = 0.005  # seconds between two calls of a client
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)  # channels would share one otherwise
TEXT = b"what is my account balance"


class Client:
    """A thread that asks one call after the other on a channel of its own.

    Attributes:
        found: how its calls ended.
    """

    def __init__(self, port: int, number: int, ended: threading.Event) -> None:
        self.port, self.number, self.ended = port, number, ended
        self.found, self.asked = Counter[str](), 0
        self.thread = threading.Thread(target=self._ask, daemon=True)  # one that hangs is not waited for

    def _ask(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", OWN_CONNECTION) as channel:
            infer = channel.unary_unary(PATH.decode(), InferRequest.SerializeToString, InferResponse.FromString)
            while not self.ended.wait(PAUSE):
                self.found[self._ended(infer)] += 1

    def _ended(self, infer: Callable[..., Any]) -> str:
        """How one call ended."""
        self.asked += 1
        request = InferRequest(id=f"{self.number}-{self.asked}")
        request.inputs.add(name="text", datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(TEXT).to_bytes(4, "little") + TEXT)
        try:
            answer = infer(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            name = error.code().name
            return {"UNAVAILABLE": "unavailable", "DEADLINE_EXCEEDED": "hung"}.get(name, f"status {name}")
        except Exception:  # whatever it is, a client does not expect it
            return "without status"
        return "answered" if answer.id == request.id else "wrong pairings"


class Clients:
    """Clients that ask while something is done to the service.

    Attributes:
        found: how their calls ended; complete after the block.
    """

    def __init__(self, port: int, count: int) -> None:
        self.ended, self.found = threading.Event(), Counter[str]()
        self.clients = [Client(port, number, self.ended) for number in range(count)]

    def __enter__(self) -> "Clients":
        for client in self.clients:
            client.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until each is answered again, then for their last calls."""
        answered, deadline = [client.found["answered"] for client in self.clients], time.monotonic() + AGAIN
        while (left := self._unanswered(answered)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.found["never answered again"] = left
        self.ended.set()
        deadline = time.monotonic() + DEADLINE + 5
        for client in self.clients:
            client.thread.join(max(0.0, deadline - time.monotonic()))
            self.found["without status"] += client.thread.is_alive()
            self.found += client.found

    def _unanswered(self, before: list[int]) -> int:
        """Clients without two more answers: the first may be to what was asked before."""
        return sum(client.found["answered"] < count + 2 for client, count in zip(self.clients, before, strict=True))


def at_work(service: Service) -> list[int]:
    """The workers, once there are two."""
    deadline = time.monotonic() + 30
    while len(workers := sorted(service.workers)) != 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return workers


def grpc_kills(count: int = 50, clients: int = 8, seed: int = 1) -> Counter[str]:
    """Kills a worker again and again: calls on its connections are lost, and no others."""
    rng, port = random.Random(seed), free_port()
    with serving("--workers", "2", "--grpc-port", str(port)) as service:
        with Clients(port, clients) as asking:
            for _ in range(count):
                time.sleep(1.2)  # one that ends sooner is not replaced at once
                os.kill(rng.choice(at_work(service)), signal.SIGKILL)
                asking.found["kills"] += 1
            at_work(service)
        asking.found["workers"] = len(service.workers)
        asking.found["left in flight"] = service.settle()
        asking.found["tracebacks"] = tracebacks(service)
    return asking.found


def grpc_rolls(count: int = 20, clients: int = 24) -> Counter[str]:
    """Puts new workers in the place of all, again and again: calls are answered, or told to go elsewhere."""
    port = free_port()
    with serving("--workers", "2", "--grpc-port", str(port)) as service:
        with Clients(port, clients) as asking:
            for _ in range(count):
                before = service.workers
                service.process.send_signal(signal.SIGHUP)
                deadline = time.monotonic() + 30
                while (service.workers & before or len(service.workers) != 2) and time.monotonic() < deadline:
                    time.sleep(0.05)
                asking.found["not rolled" if service.workers & before else "rolls"] += 1
                time.sleep(0.3)
        asking.found["left in flight"] = service.settle()
        asking.found["tracebacks"] = tracebacks(service)
    return Counter({f"wrong {what}" if what.startswith("status") else what: n for what, n in asking.found.items()})
