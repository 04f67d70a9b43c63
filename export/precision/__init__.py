"""Graphs of lower precision, and what they cost and save."""
