"""What the service did: counters, metrics, logs and traces."""
