"""How cost grows with tokens, layers, width, classes, models, history and workers, and at sizes that few have."""
