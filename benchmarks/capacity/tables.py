"""The tables of a plan, in Markdown: (m) is measured, (s) simulated, (r) reckoned from either."""

from collections.abc import Sequence

from benchmarks.capacity.costs import Costs
from benchmarks.capacity.plan import Aim, Fleet, Needs, needs
from benchmarks.capacity.store import busy_replicas, exchange, most_replicas
from benchmarks.document import markdown
from service.cpus import MOST_WORKERS

NETWORK = 1e10  # bits a second of the store's network, and of a balancer's
BEYOND = (50_000, 200_000, 1_000_000)  # requests a second
Plans = Sequence[tuple[Aim, list[Fleet]]]


def costs_table(costs: Costs) -> str:
    """What one worker takes."""
    graph, worker, (sent, received) = costs.graph, costs.worker(), costs.wire_bytes()
    pauses = f"{len(costs.pauses) / costs.watched:.1f} a second, together {sum(costs.pauses) / costs.watched:.2%}"
    rows = [
        ("tokens of a request", f"{costs.tokens:.1f}"),
        ("tokenizing, a text", micro(costs.tokenize)),
        (
            "the graph, n tokens",
            f"{micro(graph.batch)} + {graph.token * 1e6:.2f} µs x n; off by {graph.worst:.0%} at most",
        ),
        ("tokens that run together, at most", f"{costs.max_batch_tokens}"),
        (
            "a worker's CPU time of n requests in a batch",
            f"{micro(costs.served.batch)} + {micro(costs.served.request)} x n; off by {costs.served.worst:.0%} at most",
        ),
        ("of this outside the graph, a request", micro(costs.outside)),
        ("CPU time of a request at full load", micro(costs.most.cpu)),
        ("one client, median", f"{1e3 * costs.alone:.2f} ms; simulated {1e3 * worker.alone(costs.tokens):.2f} ms"),
        ("32 clients, one worker", f"{costs.most.answered:,.0f} requests/s, {costs.most.batch:.1f} in a batch"),
        ("bytes of a request, of its answer", f"{costs.request_bytes:.0f}, {costs.response_bytes:.0f}"),
        ("with frames", f"{sent:.0f}, {received:.0f}"),
        ("memory of a service, of each worker (PSS)", f"{mega(costs.base_memory)}, {mega(costs.worker_memory)}"),
        ("start to first answer", f"{costs.start:.2f} s"),
        ("pauses of the core", pauses),
    ]
    return markdown(("one worker, measured", ""), rows)


def answer_table(costs: Costs, plans: Plans) -> str:
    """A column for each rate; what needs a number of workers is of round robin."""
    columns = [answer(costs, aim, fleets) for aim, fleets in plans]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return markdown(("", *(f"{aim.rate:,.0f} requests/s" for aim, _ in plans)), rows)


def answer(costs: Costs, aim: Aim, fleets: list[Fleet]) -> dict[str, str]:
    fleet = fleets[0]
    need = needs(costs, aim, fleet)
    shared = exchange(costs.norms, fleet.workers)
    return {
        "workers = cores (s)": workers(fleet),
        "of each, utilization (s)": f"{fleet.utilization:.2f}",
        "p50, p99 (s)": f"{1e3 * fleet.p50:.1f}, {1e3 * fleet.p99:.1f} ms",
        f"machines of {aim.cores} cores (r)": f"{need.machines}",
        "memory of all (m, a worker)": giga(need.memory),
        "network in, out (m, a request)": f"{gigabits(need.bits_in)}, {gigabits(need.bits_out)}",
        "frames a second, both ways (r)": f"{need.frames:,.0f}",
        f"replicas: of {min(aim.cores, MOST_WORKERS)} workers, of one each (r)": f"{need.replicas}, {fleet.workers}",
        "pushes to the store a second (r)": f"{need.exchange.pushes:.0f}, {shared.pushes:.0f}",
        "bytes into the store a second (r)": f"{kilo(need.exchange.written)}, {kilo(shared.written)}",
        "bytes out of it a second (r)": f"{kilo(need.exchange.read)}, {kilo(shared.read)}",
        "exchange, of each replica's core (r)": f"{need.exchange.turn:.1%}, {shared.turn:.1%}",
    }


def policy_table(plans: Plans) -> str:
    rows = [
        (
            f"{aim.rate:,.0f}", fleet.policy, workers(fleet), f"{fleet.utilization:.2f}", f"{fleet.batch:.1f}",
            f"{1e3 * fleet.p50:.1f}", f"{1e3 * fleet.p99:.1f}",
        )
        for aim, fleets in plans for fleet in fleets
    ]  # fmt: skip
    return markdown(("requests/s", "policy", "workers", "utilization", "batch", "p50 ms", "p99 ms"), rows)


def beyond_table(costs: Costs, aim: Aim, fleets: list[Fleet]) -> str:
    """What grows with the rate, for fleets of round robin in proportion to the simulated one; all reckoned."""
    rows = []
    for rate in BEYOND:
        count = max(1, round(fleets[0].workers * rate / aim.rate))
        fleet = Fleet("", count, 0.0, fleets[0].p50, 0.0, 0.0, True)
        need = needs(costs, Aim(rate, aim.p99, aim.utilization, aim.cores), fleet)
        rows += [beyond(costs, rate, need, count, replicas) for replicas in (need.replicas, count)]
    header = (
        "requests/s", "workers", "replicas", "frames/s", "out, Gbit/s", "requests under way", "store gives out",
        "exchange, of a core", "GET /norm-stats", "store holds", "restart one by one",
    )  # fmt: skip
    return markdown(header, rows)


def beyond(costs: Costs, rate: float, need: Needs, workers: int, replicas: int) -> list[str]:
    shared = exchange(costs.norms, replicas)
    return [
        f"{rate:,.0f}",
        f"{workers:,}",
        f"{replicas:,}",
        f"{need.frames:,.0f}",
        f"{need.bits_out / 1e9:.2f}",
        f"{need.under_way:,.0f}",
        f"{8 * shared.read / 1e9:.2f} Gbit/s",
        f"{shared.turn:.0%}",
        f"{1e3 * shared.report:.0f} ms",
        giga(shared.stored),
        f"{replicas * costs.start / 60:.1f} min",
    ]


def limits_table(costs: Costs, aim: Aim, fleets: list[Fleet]) -> str:
    """At how many replicas, and requests a second, the exchange of statistics breaks."""
    each = aim.rate / fleets[0].workers
    counts = {
        f"the store gives out {NETWORK / 1e9:.0f} Gbit/s": most_replicas(costs.norms, NETWORK),
        "each replica takes a tenth of a core for it": busy_replicas(costs.norms, 0.1),
        "each replica takes a core for it: it falls behind": busy_replicas(costs.norms, 1.0),
    }
    rows = [
        (what, f"{count:,}", f"{each * count:,.0f}", f"{each * count * MOST_WORKERS:,.0f}")
        for what, count in counts.items()
    ]
    return markdown(("limit", "replicas", "requests/s, one worker each", f"{MOST_WORKERS} workers each"), rows)


def workers(fleet: Fleet) -> str:
    return f"{fleet.workers:,}" if fleet.met else f"more than {fleet.workers:,}"


def micro(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs"


def kilo(size: float) -> str:
    return f"{size / 1e3:,.0f} kB"


def mega(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def giga(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def gigabits(bits: float) -> str:
    return f"{bits / 1e9:.3f} Gbit/s"
