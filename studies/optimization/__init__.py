"""Claims about training: speed, stability, rates, smoothness, regularization."""
