"""A network that reads tensors, of images, tables or time series, becomes a graph that is served."""
