"""Finds the norms of a foreign ONNX graph, and exposes what flows into them."""
