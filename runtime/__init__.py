"""Runs an artifact without torch: manifest, inputs, packing, session, normalization statistics."""

import os

# ONNX Runtime's wheels report usage to Microsoft from 1.29 on; nothing of ours leaves the machine unless asked for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
