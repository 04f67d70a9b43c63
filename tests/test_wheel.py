"""The service's wheel, as pipx and uvx install it: the embedded model is in it, and no clone is needed."""

import tomllib
from pathlib import Path

import httpx
import pytest

from tests.serving import served
from tests.wheels import ROOT, Environment, build

PACKAGES = ["addnorm", "runtime", "service", "model", "export"]
SOURCES = ["pyproject.toml", "setup.py", "README.md", "models", "clients/python/src", *PACKAGES]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    wheel = build(ROOT, SOURCES, tmp_path_factory.mktemp("wheel"))
    return Environment(tmp_path_factory.mktemp("environment"), wheel, "cpu")


def test_wheel_holds_every_module_the_page_and_the_embedded_models_once(environment: Environment):
    files = [str(file) for file in environment.distribution.files or []]
    folders = {**dict.fromkeys(PACKAGES, ROOT), "addnorm_client": ROOT / "clients" / "python" / "src"}
    modules = {str(path.relative_to(at)) for name, at in folders.items() for path in (at / name).rglob("*.py")}
    assert {file for file in files if file.endswith(".py")} == modules
    models = {file for file in files if "models/intents" in file}
    assert models == {f"service/{path.relative_to(ROOT)}" for path in (ROOT / "models").glob("intents*/1/*")}
    page = ROOT / "service" / "page" / "static"
    assert {str(path.relative_to(ROOT)) for path in page.rglob("*") if path.is_file()} <= set(files)
    assert {f"{name}/py.typed" for name in folders} <= set(files)


def test_installed_service_answers_without_a_clone(environment: Environment, tmp_path: Path):
    with served(cwd=tmp_path, program=[environment.bin / "addnorm"], variables=environment.variables) as url:
        answer = httpx.post(f"{url}/predict", json={"inputs": "what is my balance"}).json()
        assert (answer["model"], answer["predictions"][0]["label"]) == ("intents", "balance")
        assert "AddNorm" in httpx.get(f"{url}/").text
        table = environment.run("addnorm", "stats", url, cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "intents version 1: 1 requests" in table.stdout


def test_client_in_the_wheel_is_the_client_of_its_version():
    versions = {
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (".", "clients/python")
    }
    assert len(versions) == 1
