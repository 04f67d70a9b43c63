"""What packing saves, and what the statistics cost."""
