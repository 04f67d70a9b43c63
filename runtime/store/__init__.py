"""States of the statistics, written down and read again."""
