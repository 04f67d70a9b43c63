"""Running the graph of an artifact with ONNX Runtime."""
