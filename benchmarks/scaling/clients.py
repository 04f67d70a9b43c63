"""Clients that ask replicas, and count every answer that they get: what the fleet's counts are held against."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.scaling.network import Network
from benchmarks.scaling.replicas import Replica

CLIENTS = 2  # that ask one replica at a time


class Answer(NamedTuple):
    """When an answer came (Unix seconds), and what it was."""

    when: float
    label: str
    tokens: int


@dataclass(slots=True)
class Answers:
    """What clients were answered.

    Attributes:
        by_replica: in the order in which they came, by the replica's number.
        failed: requests without an answer.
    """

    by_replica: dict[int, list[Answer]] = field(default_factory=dict)
    failed: int = 0

    @property
    def all(self) -> list[Answer]:
        return [answer for answers in self.by_replica.values() for answer in answers]

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.all)

    @property
    def labels(self) -> Counter[str]:
        return Counter(answer.label for answer in self.all)

    def add(self, replica: int, answers: Iterable[Answer], failed: int) -> None:
        self.by_replica[replica] = sorted([*self.by_replica.get(replica, []), *answers])
        self.failed += failed

    def tokens_since(self, replica: int, seconds: float) -> int:
        """Tokens of the answers of a replica's last seconds."""
        answers = self.by_replica.get(replica, [])
        return sum(answer.tokens for answer in answers if answer.when > answers[-1].when - seconds)


class Client(threading.Thread):
    """Asks one replica for one text after the other.

    Args:
        host: where it sits.
        pause: seconds between two requests.
        stop: ends it before all texts are asked for; so does a replica that is gone.
    """

    def __init__(
        self, replica: Replica, texts: Sequence[str], host: int, pause: float, stop: threading.Event | None = None
    ) -> None:
        super().__init__(daemon=True)
        self.replica, self.texts, self.host, self.pause = replica, texts, host, pause
        self.stop = stop or threading.Event()
        self.answers: list[Answer] = []
        self.failed = 0

    def run(self) -> None:
        network: Network = self.replica.network
        with network.inside(self.host):
            connection = http.client.HTTPConnection(network.address(self.replica.number), self.replica.port, timeout=20)
            for text in self.texts:
                if self.stop.is_set() or not self._ask(connection, text):
                    break
                time.sleep(self.pause)
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, text: str) -> bool:
        """Whether it answered."""
        try:
            connection.request("POST", "/predict", json.dumps({"inputs": text}))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            found = json.loads(content)["predictions"][0]
            self.answers.append(Answer(time.time(), found["label"], found["tokens"]))
            return True
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError):
            self.failed += 1
            return False


def ask(answers: Answers, *clients: Client) -> None:
    """Lets them ask all at a time, and counts what they were answered."""
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    count(answers, clients)


def count(answers: Answers, clients: Iterable[Client]) -> None:
    for client in clients:
        answers.add(client.replica.number, client.answers, client.failed)


def clients_of(replica: Replica, texts: Sequence[str], host: int = 0, seconds: float = 0.0) -> list[Client]:
    """Those that share these texts; they take so many seconds at least."""
    pause = seconds * CLIENTS / max(len(texts), 1)
    return [Client(replica, texts[start::CLIENTS], host, pause) for start in range(CLIENTS)]
