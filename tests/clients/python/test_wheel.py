"""The client's wheel, in an application that has packages of the service's names."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from addnorm_client import __all__ as names
from tests.live import Live
from tests.wheels import ROOT, Environment, build

APPLICATION = """
import sys

import model
import runtime
import service
import addnorm_client
from addnorm_client.models import PredictResponse

with addnorm_client.Client(sys.argv[1]) as client:
    answer = client.predict(["hi", "snow"])
    assert isinstance(answer, PredictResponse)
    print(len(answer.predictions), client.norm_stats().model)
print(service.__doc__, model.__doc__, runtime.__doc__)
print(addnorm_client.__file__, *addnorm_client.__all__)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    wheel = build(
        ROOT / "clients" / "python", ["pyproject.toml", "README.md", "src"], tmp_path_factory.mktemp("client")
    )
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


def test_wheel_asks_for_httpx_and_pydantic_only(environment: Environment):
    requirements = map(Requirement, environment.distribution.requires or [])
    assert sorted(requirement.name for requirement in requirements) == ["httpx", "pydantic"]
    assert (environment.site / "addnorm_client" / "py.typed").exists()


def test_application_with_a_service_of_its_own_asks(environment: Environment, live: Live, tmp_path: Path):
    for name in ("service", "model", "runtime"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f'"""my {name}"""')
    (tmp_path / "main.py").write_text(APPLICATION)
    done = environment.run("python", "main.py", live.url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers, mine, client = done.stdout.splitlines()
    assert answers == "2 texts"
    assert mine == "my service my model my runtime"
    assert client.split() == [str(environment.site / "addnorm_client" / "__init__.py"), *names]
