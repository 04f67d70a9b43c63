"""The servers that benchmarks/serving.py measures beside this one, each configured as it was fastest with 32 clients.

What was tried on the same core and left: FastAPI with a plain `def` (its threads cost a fifth to a third), or returning
dicts (no difference); MLServer without batching, in batches of 8 and 16, and waiting 0.1 ms; LitServe without batching,
waiting 5 ms, and with `fast_queue`; BentoML without batching. docs/benchmarks.md has the figures.
"""
