"""The examples of docs/api.md run as they stand, against a real server of the embedded model."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.live import Live, listening
from tests.ports import free_port
from tests.serving import served

ROOT = Path(__file__).parents[2]
KSERVE = ROOT / ".clients" / "kserve" / "bin" / "python"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = BLOCK.findall((ROOT / "docs" / "api.md").read_text())
CLIENT = (ROOT / "clients" / "python" / "README.md").read_text()
CURLS = re.findall(r"^curl .*$", (ROOT / "docs" / "api.md").read_text().replace("\\\n", " "), re.MULTILINE)


@pytest.fixture(scope="module")
def embedded() -> Iterator[Live]:
    settings = Settings(device="cpu", workers=1)
    with listening(settings, ModelRegistry(Engine(settings))) as live:
        yield live


def run(live: Live, marker: str, python: Path | str = sys.executable) -> str:
    """What the one example that has `marker` prints."""
    (example,) = [code for code in EXAMPLES if marker in code]
    return run_code(live, example, python)


def run_code(live: Live, example: str, python: Path | str = sys.executable) -> str:
    assert "127.0.0.1:8000" in example
    code = example.replace("127.0.0.1:8000", live.address)
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run():
    markers = ("tritonclient.http", "tritonclient.grpc", "kserve", "openai", "addnorm_client")
    assert [sum(marker in code for marker in markers) for code in EXAMPLES] == [1] * len(markers)


def test_tritonclient_example(embedded: Live):
    assert run(embedded, "tritonclient.http").startswith("[b'balance' b'weather']")


@pytest.mark.skipif(not KSERVE.exists(), reason=f"{KSERVE} is missing: make .clients/kserve.stamp installs it")
def test_grpc_example():
    (example,) = [code for code in EXAMPLES if "tritonclient.grpc" in code]
    port = free_port()
    with served("--grpc-port", str(port)):
        code = example.replace("127.0.0.1:8001", f"127.0.0.1:{port}")
        done = subprocess.run([KSERVE, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[b'balance' b'weather']\n", done.stderr


@pytest.mark.skipif(not KSERVE.exists(), reason=f"{KSERVE} is missing: make .clients/kserve.stamp installs it")
def test_kserve_example(embedded: Live):
    assert run(embedded, "kserve", KSERVE).strip() == "['balance']"


def test_openai_example(embedded: Live):
    assert run(embedded, "openai").splitlines() == ["160 7", "['intents', 'intents:1']"]


def test_client_example(embedded: Live):
    lines = run(embedded, "addnorm_client").splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["balance", "weather"]
    assert lines[2:] == ["insufficient_data", "400 empty_text", "160 intents"]


def test_example_of_the_client_itself(embedded: Live):
    (example,) = BLOCK.findall(CLIENT)
    lines = run_code(embedded, example).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["balance", "weather"]
    assert lines[2].endswith(".")


def test_curl_examples(embedded: Live):
    """Without curl itself, which need not be installed."""
    answers = {}
    for command in CURLS:
        _, url, option, body = shlex.split(command.replace("127.0.0.1:8000", embedded.address))
        assert option == "-d"
        answers[httpx.URL(url).path] = httpx.post(url, content=body, trust_env=False).raise_for_status().json()
    first, second = answers["/embed"]["embeddings"]
    assert 0.5 < np.dot(first["embedding"], second["embedding"]) < 1
    near, far = answers["/similarity"]["similarities"]
    assert near > far
    assert [token["text"] for token in answers["/tokenize"]["tokens"][0]][:1] == ["Ġwhat"]
