"""Requests per second and latency beside other servers."""
