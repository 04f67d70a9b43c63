"""Scores files: predictions and norm statistics over them, without a service."""
