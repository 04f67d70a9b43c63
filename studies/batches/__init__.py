"""Claims about what the norms depend on: the batch, its size, its padding."""
