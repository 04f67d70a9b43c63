"""Sufficient statistics of what norms saw; they merge by addition."""
