"""What replicas take to tell one another what they counted, by a store: from the figures in docs/scaling.md.

`python -m benchmarks.scaling.cost` measured them. What a replica tells does not depend on the rate of requests; what it
reads grows with the replicas, and what all read together with their square.
"""

from dataclasses import dataclass

import numpy as np

NORMS = (5, 13, 25)
FIGURES, HISTOGRAMS = (11e3, 13e3, 16e3), (46e3, 90e3, 153e3)  # bytes of a push, by norms
PUSH = (1.5e-3, 1.9e-3, 2.4e-3)  # seconds of a core for a push, histograms included; at a busy moment
HISTOGRAMS_EVERY = 10.0  # seconds; figures are told every second
# of a fleet of so many replicas of the embedded model (5 norms), with a full day: each is the larger number there
FLEET, FLEET_TURN, FLEET_REPORT, FLEET_BYTES, FLEET_READ = 32, 0.045, 0.021, 221e6, 8.0
ALONE_REPORT = 5.5e-3  # seconds of GET /norm-stats of an hour where there is one replica; docs/benchmarks.md


@dataclass(frozen=True, slots=True)
class Exchange:
    """Of N replicas and their store.

    Attributes:
        pushes: a second, of all.
        written, read: bytes a second that the store takes in and gives out.
        turn: seconds of a core each second, in each replica.
        report: seconds of GET /norm-stats, of an hour.
        stored: bytes in the store.
        catch_up: seconds until a replica that starts has read what all others told; it answers meanwhile.
    """

    pushes: float
    written: float
    read: float
    turn: float
    report: float
    stored: float
    catch_up: float


def exchange(norms: int, replicas: int) -> Exchange:
    """What is measured of 32 replicas is taken as proportional to the others; between and beyond 5 to 25 norms, bytes
    and times of a push lie on a line.
    """
    others = replicas - 1
    told = line(norms, FIGURES) + line(norms, HISTOGRAMS) / HISTOGRAMS_EVERY
    size = told / (line(NORMS[0], FIGURES) + line(NORMS[0], HISTOGRAMS) / HISTOGRAMS_EVERY)
    share = size * others / (FLEET - 1)
    push = line(norms, PUSH)
    return Exchange(
        pushes=float(replicas),
        written=replicas * told,
        read=replicas * others * told,
        turn=push + share * (FLEET_TURN - line(NORMS[0], PUSH)),
        report=ALONE_REPORT + share * (FLEET_REPORT - ALONE_REPORT),
        stored=size * replicas * FLEET_BYTES / FLEET,
        catch_up=share * FLEET_READ,
    )


def line(norms: int, values: tuple[float, ...]) -> float:
    """The value for so many norms, on the line between those that were measured, or through them beyond."""
    slope, start = np.polyfit(NORMS, values, 1)
    inside = NORMS[0] <= norms <= NORMS[-1]
    return float(np.interp(norms, NORMS, values) if inside else max(start + slope * norms, values[0] / 2))


def most_replicas(norms: int, bits: float) -> int:
    """Replicas until what they read from one store takes so many bits a second."""
    told = 8 * (line(norms, FIGURES) + line(norms, HISTOGRAMS) / HISTOGRAMS_EVERY)
    return int((1 + np.sqrt(1 + 4 * bits / told)) / 2)


def busy_replicas(norms: int, share: float) -> int:
    """Replicas until each takes that share of a core to hear of the others."""
    one, two = exchange(norms, 1).turn, exchange(norms, 2).turn
    return 1 + int((share - one) / (two - one))
