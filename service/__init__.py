"""HTTP around the runtime."""

import os

# Set before numpy is imported. Its BLAS would keep a thread per core, for products too small to share; and a process
# that is to fork must have no threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

VERSION = "0.1.0"
