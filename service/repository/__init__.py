"""Models on disk, which of them are served, and how that changes."""
