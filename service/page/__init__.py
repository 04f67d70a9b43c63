"""The page at `/`: its files, and the events that it follows."""
