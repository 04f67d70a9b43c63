"""Servers as people write them themselves, one worker and one thread each."""
