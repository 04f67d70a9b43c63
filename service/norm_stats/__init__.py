"""What the normalization layers saw, as it is asked for."""
