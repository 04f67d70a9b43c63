"""The network: Add & Norm blocks and their norms."""
