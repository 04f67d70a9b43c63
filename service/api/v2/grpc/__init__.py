"""The Open Inference Protocol over gRPC, as Triton and KServe speak it; needs the extra `grpc`."""

import logging
import os

# Before grpc is loaded: its core writes what clients send to stderr as it is, line ends too, and its Python part logs
# metadata that is no UTF-8 in whole, keys among it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
