"""Attacks and faults against real services; nothing uses it but `make campaign`."""
