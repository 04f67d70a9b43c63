"""What a process that serves does not load: it costs memory and time at the start, and only some need it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.artifact import Artifact

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
from pathlib import Path

import service.serve
from service.repository.control import load_all
from service.process import Process
from service.settings import Settings

settings = Settings(model=Path(sys.argv[1]), device="cpu", workers=1)
control = load_all(settings)
Process(settings, control.models, control, None, None)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def loaded(text_artifact: Artifact) -> set[str]:
    """The modules of a process that is ready to serve, as nobody set anything."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ADDNORM_", "OTEL_"))}
    command = [sys.executable, "-c", LOADED, str(text_artifact.path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "sqlite3",  # for those who keep statistics
        "prometheus_client",  # for those who scrape
        "service.workers.supervisor",  # for several processes
        "service.workers.worker",
        "opentelemetry.sdk",  # for those who trace
        "httpx",  # for clients
        "rich",
        "addnorm.client",
        "torch",
        "onnx",
    ],
)
def test_a_serving_process_does_not_import_what_few_need(loaded: set[str], name: str):
    assert "service.process" in loaded
    assert name not in loaded
