"""What parent and workers say to each other about what is served.

A worker first says READY, or FAILED. For every change the parent says PREPARE to all; each answers PREPARED; then the
parent says SERVE, which each confirms by SERVED, or DROP.
"""

READY, FAILED = "ready", "failed"
PREPARE, PREPARED = "prepare", "prepared"
SERVE, SERVED = "serve", "served"
DROP = "drop"
PARENT = ""  # whom a worker asks that asks no collector
