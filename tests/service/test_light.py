"""What a process that serves does not load: it costs memory and time at the start, and only some need it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = """
import sys

from runtime.described import late_models

with late_models():
    import fastapi.openapi.models
from service.schemas.base import Body
import service.serve
from service.repository.control import load_all
from service.process import Process
from service.settings import Settings

settings = Settings(device="cpu", workers=1)
control = load_all(settings)
Process(settings, control.models, control, None, None)
print(*sys.modules)
print("built", *sorted(model.__name__ for model in Body.__subclasses__() if model.__pydantic_complete__))
print("built", *(["OpenAPI"] if fastapi.openapi.models.OpenAPI.__pydantic_complete__ else []))
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What LOADED prints of a process that is ready to serve the embedded model, as nobody set anything."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ADDNORM_", "OTEL_"))}
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def loaded(printed: list[str]) -> set[str]:
    return set(printed[0].split())


def test_a_serving_process_builds_no_validator_before_somebody_asks(printed: list[str]):
    """Those of its own bodies, but for what is a default of another, and of the framework's OpenAPI documents."""
    own, framework = (set(line.split()[1:]) for line in printed[1:])
    assert own <= {"LoadParameters", "UnloadParameters", "Duration"}
    assert not framework


def test_the_command_imports_the_service_with_late_models(tmp_path: Path):
    code = (
        "from addnorm.cli import main; import sys;"
        f"code = main(['serve', '--model', {str(tmp_path / 'none')!r}, '--device', 'cpu', '--workers', '1']);"
        "from fastapi.openapi.models import OpenAPI; print(code, OpenAPI.__pydantic_complete__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


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
        "addnorm_client",
        "torch",
        "onnx",
    ],
)
def test_a_serving_process_does_not_import_what_few_need(loaded: set[str], name: str):
    assert "service.process" in loaded
    assert name not in loaded
