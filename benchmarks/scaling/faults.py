"""What is done to a fleet, in order: a replica ends, one is cut off, the store forgets, one ends under load."""

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import cycle, islice
from typing import Any, NamedTuple

from benchmarks.scaling.campaign import CUT, KILLED, STAYS, Check, Fleet
from benchmarks.scaling.clients import Client, count
from benchmarks.scaling.compare import missing_seconds
from benchmarks.scaling.replicas import PORT

QUIET = 2.0  # seconds between the last answer of a replica and its end
LAST, TURN = 1.0, 0.2  # seconds of traffic that a replica which is killed under load may take with it; of a turn
SILENT = 6.0  # seconds after which a replica that says nothing is surely called silent
HEARD = 2.5  # seconds before its end in which it was heard of at last: a turn a second, told in whole ones
CLIENTS, PAUSE = 4, 0.005  # of each replica while one is killed, and seconds between their requests
MOST = 100_000  # requests of one of them


class Times(NamedTuple):
    """Seconds for which a replica is cut off, for which the store is down, and of load in which a replica is killed."""

    cut: float
    down: float
    load: float


def break_all(fleet: Fleet, texts: list[str], times: Times) -> None:
    """Sends these texts, most of them while something is broken, and then more."""
    rest = texts[len(texts) // 2 :]
    second, third, fourth, fifth = (rest[place::4] for place in range(4))
    fleet.send(texts[: len(texts) // 2], (STAYS, CUT, KILLED))
    if fleet.store is not None:
        fleet.store.save()
    fleet.send(second, (STAYS, CUT, KILLED))
    time.sleep(QUIET)
    fleet.replicas[KILLED].kill()
    cut_off(fleet, third, times.cut)
    if fleet.store is None:
        fleet.send([*fourth, *fifth], (STAYS, CUT))
        fleet.check("a replica killed, one cut off", (STAYS, CUT))
    else:
        restart_store(fleet, fourth, times.down, snapshot=True)
        restart_store(fleet, fifth, times.down, snapshot=False)
    failed, broken = fleet.answers.failed, sum(replica.tracebacks() for replica in fleet.replicas.values())
    fleet.checks.append(Check("all this", f"{failed} requests failed, {broken} tracebacks", failed == broken == 0))
    kill_under_load(fleet, texts, times.load)


def cut_off(fleet: Fleet, texts: Sequence[str], seconds: float) -> None:
    """A replica is asked by clients of its own host alone, while it is cut off; it says so."""
    fleet.network.set_plug(CUT, up=False)
    began = time.monotonic()
    fleet.send(texts, [CUT], host=CUT, seconds=seconds)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    trouble = fleet.replicas[CUT].report(host=CUT)["fleet"]["trouble"]
    fleet.network.set_plug(CUT, up=True)
    fleet.checks.append(Check(f"cut off for {seconds:g} s: replica {CUT}", f"it says: {trouble}", bool(trouble)))


def restart_store(fleet: Fleet, texts: Sequence[str], down: float, snapshot: bool) -> None:
    """The store is killed and started again, while clients go on asking."""
    assert fleet.store is not None
    asking = threading.Thread(target=fleet.send, args=(texts, (STAYS, CUT), 0, down))
    asking.start()
    try:
        fleet.store.restart(down, snapshot)
    finally:
        asking.join()
    fleet.check(f"store started again {'from an old snapshot' if snapshot else 'with nothing'}", (STAYS, CUT))


def kill_under_load(fleet: Fleet, texts: Sequence[str], seconds: float) -> None:
    """A replica is killed while clients ask: its last second of traffic is missing at most, and it is named."""
    stop, before = threading.Event(), len(fleet.answers.by_replica[CUT])
    clients = [
        Client(fleet.replicas[number], list(islice(cycle(texts), place, place + MOST)), 0, PAUSE, stop)
        for number in (STAYS, CUT)
        for place in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    time.sleep(seconds / 2)
    killed = fleet.replicas[CUT].kill()
    time.sleep(seconds / 2)
    stop.set()
    for client in clients:
        client.join()
    count(fleet.answers, clients)
    time.sleep(max(0.0, killed + SILENT - time.time()))
    report, answers = fleet.replicas[STAYS].report(), fleet.answers.by_replica[CUT]
    lost = len(fleet.answers.all) - report["requests"]
    last = missing_seconds(answers, lost, killed)
    found = f"{max(lost, 0)} of {len(answers) - before:,} answers are missing, those of the last {last:.2f} s"
    fleet.checks.append(Check(f"killed under load: replica {CUT}", found, last <= LAST + TURN))
    fleet.checks.append(named_silent(report["fleet"], PORT + CUT, killed))


def named_silent(status: dict[str, Any], port: int, killed: float) -> Check:
    """Whether a replica is named as silent since about when it was killed.

    Args:
        status: what /norm-stats says of the fleet.
        killed: when (Unix seconds).
    """
    names = {each["name"].rpartition(":")[2]: each for each in status["others"]}
    if (named := names.get(str(port))) is None:
        return Check("it is named as silent", f"not among {sorted(names)}", False)
    since = datetime.fromisoformat(named["heard"]).timestamp() - killed
    found = f"{named['name']} silent for {named['age_seconds']:.1f} s, heard {since:+.1f} s from when it was killed"
    held = status["silent"] >= 1 and named["age_seconds"] > 5 and -HEARD < since < 1.0
    return Check("it is named as silent", found, held)
