"""Three replicas, clients, and one process that sees the same texts: what the fleet counts is held against both."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.scaling.clients import Answers, ask, clients_of
from benchmarks.scaling.compare import TOLERANCE, missing_tokens, worst_moment, wrong_labels
from benchmarks.scaling.network import Network, network
from benchmarks.scaling.replicas import MODEL, PORT, Replica, Store
from runtime.artifact import read_artifact
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.statistics.state import NormState
from service.norm_stats.collector import Collector
from service.norm_stats.publication import EVERY
from service.settings import Settings

WORKERS = {1: 1, 2: 1, 3: 2}  # of each replica: one has its courier in a process of its own
STAYS, CUT, KILLED = WORKERS  # what happens to each; the one that is cut off is killed under load in the end
QUIET = 2.0  # seconds between the last answer of a replica and its end
SETTLED = 20.0  # seconds that replicas have to hear of everything: histograms come every 10 s


class Check(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    held: bool


class Alone:
    """One process that sees all texts itself."""

    def __init__(self) -> None:
        artifact = read_artifact(MODEL)
        self.labels = artifact.manifest.labels
        self.encoder, self.inputs = Encoder(artifact), make_input_encoder(artifact)
        self.collector = Collector(artifact, Settings(model=MODEL, device="cpu"))

    def see(self, texts: Sequence[str]) -> None:
        for item in self.inputs.encode(list(texts)):
            self.collector.observe(self.encoder.run([item.tokens]), 0.0)

    def state(self) -> NormState:
        return self.collector.recorder.state()


@dataclass(slots=True)
class Fleet:
    """Three replicas, what clients were answered, and one process beside them."""

    network: Network
    replicas: dict[int, Replica]
    store: Store | None
    answers: Answers = field(default_factory=Answers)
    alone: Alone = field(default_factory=Alone)
    checks: list[Check] = field(default_factory=list)

    def send(self, texts: Sequence[str], to: Sequence[int], host: int = 0, seconds: float = 0.0) -> None:
        """Asks these replicas for equal parts, from clients on that host, for so many seconds at least."""
        parts = [texts[place :: len(to)] for place in range(len(to))]
        pairs = zip(to, parts, strict=True)
        ask(self.answers, *[each for n, part in pairs for each in clients_of(self.replicas[n], part, host, seconds)])
        self.alone.see(texts)

    def check(self, when: str, survivors: Sequence[int]) -> None:
        """The counts of all, as every survivor tells them, are those of the clients and of one process."""
        expected, started = self.alone.state(), time.monotonic()
        while True:
            found = [self._compare(self.replicas[number], expected) for number in survivors]
            waited = time.monotonic() - started
            exact = all(lacking == 0 for *_, lacking in found)
            if waited > SETTLED or (all(held for _, held, _ in found) and (exact or waited > EVERY + 2)):
                break
            time.sleep(0.5)
        for number, (figures, held, _) in zip(survivors, found, strict=True):
            self.checks.append(Check(f"{when}: replica {number}", figures, held))

    def _compare(self, replica: Replica, expected: NormState) -> tuple[str, bool, float]:
        """Figures, whether they are as they should be, and tokens that the histograms lack."""
        report, state, clients = replica.report(), replica.state().state, self.answers
        requests, tokens = report["requests"] - len(clients.all), report["tokens"] - clients.tokens
        classes = wrong_labels(state.traffic.counts.tolist(), self.alone.labels, clients.labels)
        moments, lacking = worst_moment(state.moments, expected.moments), missing_tokens(state, expected)
        allowed = clients.tokens_since(KILLED, EVERY)  # a replica tells its histograms every 10 s
        figures = f"requests {report['requests']:,} ({requests:+}), tokens {report['tokens']:,} ({tokens:+}), "
        figures += f"{classes} wrong in classes, moments off by {moments:.0e}, "
        figures += "histograms equal" if not lacking else f"histograms lack {lacking:g} tokens of {allowed} at most"
        return figures, requests == tokens == classes == 0 and moments <= TOLERANCE and lacking <= allowed, lacking


@contextmanager
def fleet(name: str, folder: Path, with_store: bool) -> Iterator[Fleet]:
    """Three replicas on three hosts, and a store on a fourth or none; gone in the end, whatever happens."""
    with ExitStack() as stack:
        net = stack.enter_context(network(name, 1 + len(WORKERS)))
        store = Store(net, folder) if with_store else None
        if store is not None:
            stack.callback(lambda: store.process.kill())
        peers = ",".join(f"http://{net.address(number)}:{PORT + number}" for number in WORKERS)
        how = {"peers": peers} if store is None else {"store": store.url}
        replicas = {}
        for number, workers in WORKERS.items():
            replicas[number] = Replica(net, number, workers, folder, **how)
            stack.callback(replicas[number].kill)
        for replica in replicas.values():
            replica.wait_ready(len(WORKERS))
        yield Fleet(net, replicas, store)
