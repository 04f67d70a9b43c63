"""The compose file keeps its promises: nothing runs as root, unbounded, unwatched or unpinned."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.fleet.host import LAST_TURN
from service.process import GRACE
from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", (ROOT / "Dockerfile").read_text(), re.M | re.S))
each_service = pytest.mark.parametrize("name", SERVICES)
LOCKS = ("serve.txt", "serve-gpu.txt")
OF_THE_IMAGE, OF_A_PROXY = {"host", "port", "device", "state"}, {"tls_cert", "tls_key", "tls_client_ca"}


def stage(name: str) -> str:
    """What the Dockerfile says about a service's image; nothing where it comes from a registry."""
    return STAGES[SERVICES[name]["build"]["target"]] if "build" in SERVICES[name] else ""


def test_without_a_profile_the_service_runs_alone() -> None:
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        "addnorm": None,
        "addnorm-gpu": ["gpu"],
        "train": ["train"],
        "adopt": ["adopt"],
        "prometheus": ["observe"],
        "grafana": ["observe"],
    }


@each_service
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged")
    limits = service["deploy"]["resources"]["limits"]
    assert limits["cpus"] and limits["memory"]


@each_service
def test_service_is_not_root(name: str) -> None:
    user = str(SERVICES[name].get("user") or re.findall(r"^USER (\S+)", stage(name), re.M)[-1])
    assert re.fullmatch(r"[1-9]\d*:\d+", user)


@each_service
def test_service_has_a_health_check(name: str) -> None:
    assert "HEALTHCHECK" in stage(name) or SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@each_service
def test_image_has_an_exact_version(name: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", SERVICES[name]["image"])


@each_service
def test_what_is_mounted_exists(name: str) -> None:
    for mount in SERVICES[name]["volumes"]:
        source, rest = re.fullmatch(r"(\$\{\w+:-[\w.]+\}|[^:]+):(.+)", mount).groups()  # type: ignore[union-attr]
        source = re.sub(r"\$\{\w+:-([\w.]+)\}", r"\1", source)
        if source.startswith("."):
            assert (ROOT / source).is_dir() and rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_what_knows_no_passwords_is_published_on_this_machine_only() -> None:
    for name in ("prometheus", "grafana"):
        (port,) = SERVICES[name]["ports"]
        assert re.fullmatch(r"\$\{\w+:-127\.0\.0\.1:\d+\}:\d+", port)
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [key for service in SERVICES.values() for key in service.get("environment", {}) if "PASSWORD" in key]


def test_every_setting_is_passed_on_but_those_that_the_image_or_a_proxy_has() -> None:
    passed = {f"ADDNORM_{name.upper()}" for name in Settings.model_fields.keys() - OF_THE_IMAGE - OF_A_PROXY}
    for name in ("addnorm", "addnorm-gpu"):
        assert SERVICES[name]["environment"].keys() == passed
    assert set(re.findall(r"ADDNORM_(\w+)=", STAGES["service"])) == {name.upper() for name in OF_THE_IMAGE - {"port"}}


def test_every_setting_that_is_passed_on_is_one_and_is_documented() -> None:
    document = (ROOT / "docs" / "deployment.md").read_text()
    for name in ("addnorm", "addnorm-gpu"):
        for variable in SERVICES[name]["environment"]:
            assert variable.removeprefix("ADDNORM_").lower() in Settings.model_fields
            assert f"`{variable}`" in document
    for variable in re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()):
        assert f"`{variable}`" in document, f"docs/deployment.md does not say what {variable} does"


def test_images_of_one_version_of_this_project() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]
    ours = [service["image"] for service in SERVICES.values() if "build" in service]
    assert {image.split(":")[1].split("-")[0] for image in ours} == {version}
    for name in ("service", "train"):
        assert f'image.version="{version}"' in STAGES[name]


def test_the_gpu_image_differs_from_the_cpu_one_in_its_device_and_in_cuda_alone() -> None:
    build, cpu = SERVICES["addnorm-gpu"]["build"], SERVICES["addnorm"]["build"]
    assert {**build, "args": {}} == {**cpu, "args": {}} and build["args"] == {"DEVICE": "cuda"}
    assert "ARG DEVICE=cpu" in STAGES["builder"] and "ADDNORM_DEVICE=$DEVICE" in STAGES["service"]
    locks = [set(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.M)) for name in LOCKS]
    (only_cpu,), only_gpu = locks[0] - locks[1], {name for name, _ in locks[1] - locks[0]}
    assert only_cpu[0] == "onnxruntime"
    assert "onnxruntime-gpu" in only_gpu and "onnxruntime" not in only_gpu
    assert all(name.startswith("nvidia-") for name in only_gpu - {"onnxruntime-gpu"})
    # what ONNX Runtime loads when a session is made: with these, only the driver is missing
    assert only_gpu >= {"nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cufft", "nvidia-curand", "nvidia-cuda-runtime"}


def test_openvino_is_pinned_alike_and_what_reports_its_use_is_left_out() -> None:
    named = set(re.findall(r'"(openvino==\S+)"', (ROOT / "pyproject.toml").read_text()))
    locks = {name: (ROOT / "requirements" / name).read_text() for name in ("openvino.txt", "test.txt", "serve.txt")}
    assert set(re.findall(r"^(\S+==\S+)", locks["openvino.txt"], re.M)) == named and len(named) == 1
    assert named < set(re.findall(r"^(\S+==\S+)", locks["test.txt"], re.M))
    assert "openvino" not in locks["serve.txt"] and "openvino-telemetry" not in "".join(locks.values())


def test_images_get_what_they_copy() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    sources = [source for sources in copies for source in sources.split()]
    assert "requirements/openvino.txt" in sources  # which stands beside others
    for source in sources:
        assert f"!{source}" in allowed and (ROOT / source).exists(), source


def test_a_container_has_time_to_stop_and_it_can_be_given_more() -> None:
    for name in ("addnorm", "addnorm-gpu"):
        seconds = re.fullmatch(r"\$\{STOP_GRACE:-(\d+)s\}", SERVICES[name]["stop_grace_period"])
        assert seconds is not None and int(seconds[1]) >= GRACE + 5 + LAST_TURN
