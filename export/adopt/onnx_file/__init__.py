"""An ONNX file that others exported becomes a graph that is served padded."""
