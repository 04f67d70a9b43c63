"""Encoders that others trained: their directories, and how each family runs packed batches."""
