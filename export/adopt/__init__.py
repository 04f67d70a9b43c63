"""From a directory or a file that others made to an artifact."""
