"""Costs of a made-up worker, in round numbers."""

from dataclasses import replace

from benchmarks.capacity.costs import BatchTime, Costs, GraphTime, Measured, Served

MOST = Served(1, 1, 1.0, 5000.0, 5000.0, 0.006, 0.009, 2e-4, 20.0)
COSTS = Costs(
    rows=1,
    lengths=[8, 9, 10],
    tokenize=2e-5,
    graph=GraphTime(1e-4, 1e-5, 0.02),
    max_batch_tokens=512,
    norms=5,
    alone=4e-4,
    served=BatchTime(2e-4, 1.9e-4, 0.03),
    most=MOST,
    request_bytes=150.0,
    response_bytes=300.0,
    base_memory=60e6,
    worker_memory=50e6,
    start=0.8,
    pauses=[],
    watched=5.0,
    machine="2 cores",
)
MEASURED = Measured(COSTS, [replace(MOST, load=0.5, offered=2500.0, answered=2500.0)])
