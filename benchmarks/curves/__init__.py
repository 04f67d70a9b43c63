"""How cost grows with tokens, layers, width, classes, loaded models, recorded history and workers."""
