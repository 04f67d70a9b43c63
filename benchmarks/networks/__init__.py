"""What observing networks of tensors costs, and how fast they are served."""
