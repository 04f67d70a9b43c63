"""KServe's client, as it is published, against a real server; in an environment of its own, which `make test` makes."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import LABELS
from tests.live import Live

PYTHON = Path(__file__).parents[2] / ".clients" / "kserve" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON} is missing: make .clients/kserve.stamp installs it")
def test_kserve_client_asks_everything_it_can(live: Live):
    script = Path(__file__).with_name("ask_kserve.py")
    done = subprocess.run([PYTHON, script, live.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["live"], found["ready"], found["models"]) == (True, True, [True, True, False])
    assert found["id"] == "mine"
    texts = live.models.find("texts")
    batch = texts.encoder.run([item.tokens for item in texts.inputs.encode(["hi", "will it rain"])])
    assert found["texts"]["label"] == [LABELS[best] for best in batch.classes]
    np.testing.assert_allclose(found["texts"]["logits"], batch.logits, rtol=1e-4, atol=1e-5)
    features = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    batch = live.models.find("signals").encoder.run(list(features))
    np.testing.assert_allclose(found["signals"]["embedding"], batch.embedding, rtol=1e-4, atol=1e-5)
    assert found["signals"]["label"] == [LABELS[best] for best in batch.classes]
    assert found["plain"] == ["logits", "probabilities", "label", "score", "embedding"]
    assert "text, or input_ids" in found["error"] and "400" in found["error"]
