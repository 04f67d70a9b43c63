"""KServe's objects: fields by KServe's own models, containers by Kubernetes' schemas, arguments by the service."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import CliApp

from addnorm.commands.serve import Serve
from service import serve as server
from service.app import GRACE as GRPC_GRACE
from service.process import GRACE
from service.settings import Settings
from tests.deploy.objects import KSERVE, Objects, Tools, assert_confined, assert_settings, complaints, needs_tools
from tests.service.api.contract import DOCUMENT
from tests.serving import ROOT

PYTHON = ROOT / ".clients" / "kserve" / "bin" / "python"
CHECK = Path(__file__).with_name("check_fields.py")
needs_kserve = pytest.mark.skipif(
    not PYTHON.exists(), reason=f"{PYTHON} is missing: make .clients/kserve.stamp installs it"
)
FILES = {path.stem: list(yaml.safe_load_all(path.read_text())) for path in KSERVE.glob("*.yaml")}
RUNTIMES = {name: objects[0] for name, objects in FILES.items() if name.startswith("runtime")}
OBJECTS = [each for name, objects in FILES.items() if name != "kustomization" for each in objects]
each_runtime = pytest.mark.parametrize("name", sorted(RUNTIMES))


def unknown_fields(objects: Objects) -> list[str]:
    done = subprocess.run([PYTHON, CHECK], input=json.dumps(objects), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def container_of(name: str) -> dict[str, Any]:
    (container,) = RUNTIMES[name]["spec"]["containers"]
    return dict(container)


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the runtime's container serves for an InferenceService `intents`, by its variables and arguments."""
    container, found = container_of(name), list[Settings]()
    assert_settings(container)
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    monkeypatch.setattr(server, "serve", found.append)
    command, *arguments = container["args"]
    assert command == "serve"
    CliApp.run(Serve, cli_args=[argument.replace("{{.Name}}", "intents") for argument in arguments])
    return found[0]


@needs_kserve
def test_fields_are_those_that_kserve_knows() -> None:
    wrong = copy.deepcopy(OBJECTS)
    for each in wrong:
        spec = each["spec"]
        place = spec.get("predictor", spec.get("model", spec))
        place["protocolVerion"] = place.pop("protocolVersions", "v2")
        each["metadata"]["name"] = "wrong"
    found = unknown_fields([*OBJECTS, *wrong])  # by one process: it takes seconds to start
    assert len(found) == len(wrong)
    assert all(" wrong." in each and "protocolVerion is no field of " in each for each in found)


@needs_tools
def test_containers_are_what_the_schemas_of_kubernetes_allow() -> None:
    def pod(name: str, volumes: Any, **more: Any) -> dict[str, Any]:
        spec = {"containers": [container_of(name) | more], "volumes": volumes}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    made = [pod(name, runtime["spec"]["volumes"]) for name, runtime in RUNTIMES.items()]
    assert complaints(made) == []
    assert len(complaints([pod("runtime", [], readynessProbe={})])) == 1


@each_runtime
def test_runtime_is_as_kserve_wants_it(name: str) -> None:
    runtime = RUNTIMES[name]
    container, annotations = container_of(name), runtime["spec"]["annotations"]
    assert container["name"] == "kserve-container"
    assert_confined(runtime["spec"], container)
    assert annotations["prometheus.kserve.io/port"] == "8080"
    assert annotations["prometheus.kserve.io/path"] in DOCUMENT["paths"]
    (supported,) = runtime["spec"]["supportedModelFormats"]
    assert (supported["name"], supported["version"]) == ("addnorm", "1")
    assert supported["autoSelect"] is (name != "runtime-multi-model")
    (port,) = container["ports"]  # Knative takes one
    assert runtime["spec"]["protocolVersions"] == ["grpc-v2" if port["name"] == "h2c" else "v2"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe].get("httpGet") or container[probe]["grpc"]
        assert asked["port"] == port["containerPort"]
        assert "get" in DOCUMENT["paths"][asked.get("path", "/health/live")]


@each_runtime
def test_arguments_serve_what_kserve_mounts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, container = settings_of(name, monkeypatch), container_of(name)
    (port,) = container["ports"]
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.grpc_port == (port["containerPort"] if port["name"] == "h2c" else None)
    if name == "runtime-multi-model":
        assert (str(settings.models), settings.model_control, settings.name) == ("/mnt/models", "explicit", None)
        assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"  # ready before it has a model
    else:
        assert (str(settings.model), settings.models, settings.name) == ("/mnt/models", None, "intents")


def test_inference_services_name_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {runtime["metadata"]["name"] for runtime in RUNTIMES.values()}
    services = {each["metadata"]["name"]: each for each in OBJECTS if each["kind"] == "InferenceService"}
    for each in services.values():
        predictor = each["spec"]["predictor"]
        assert predictor["model"].get("runtime", "addnorm") in names
        assert ("storageUri" in predictor["model"]) is ("runtime" not in predictor["model"])
        longest = settings_of("runtime", monkeypatch).drain_delay + GRACE + GRPC_GRACE
        assert predictor["terminationGracePeriodSeconds"] >= longest
        assert predictor["enableServiceLinks"] is False  # a ServingRuntime has no such field
    (trained,) = [each for each in OBJECTS if each["kind"] == "TrainedModel"]
    assert trained["spec"]["inferenceService"] in services


@needs_tools
def test_runtimes_can_be_applied_together(shared_path: Path) -> None:
    objects = Tools(shared_path / "kubernetes-tools").kustomize(KSERVE)
    assert sorted(each["metadata"]["name"] for each in objects) == sorted(
        runtime["metadata"]["name"] for runtime in RUNTIMES.values()
    )
    assert {each["spec"]["containers"][0]["image"] for each in objects} == {container_of("runtime")["image"]}
