"""Measurements as ratios in one run; docs/benchmarks.md and docs/drift.md have the results."""
