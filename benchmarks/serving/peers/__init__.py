"""The servers that are measured beside this one, one worker each, configured as was fastest here.

What was tried is in docs/benchmarks.md. Batching does not pay where texts of mixed lengths are padded on one CPU core,
but for LitServe, whose two processes share the cost of passing requests on.
"""
