"""The network, its data and its training, in PyTorch."""
