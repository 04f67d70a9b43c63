"""The overlays: rendered by a real kubectl, checked against Kubernetes' schemas, the settings and each other."""

import copy
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import GRACE as GRPC_GRACE
from service.process import GRACE
from service.settings import Settings
from tests.deploy.objects import (
    KUBERNETES,
    Objects,
    Tools,
    assert_confined,
    assert_settings,
    complaints,
    needs_tools,
    of_kind,
    pods,
    variables,
)
from tests.service.api.contract import DOCUMENT
from tests.serving import ROOT

pytestmark = needs_tools
OVERLAYS = ("cpu", "gpu", "redis")
VERSION = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["addnorm"]["image"].partition(":")[2]


@pytest.fixture(scope="module")
def rendered(shared_path: Path) -> dict[str, Objects]:
    tools = Tools(shared_path / "kubernetes-tools")
    return {name: tools.kustomize(KUBERNETES / "overlays" / name) for name in OVERLAYS}


def test_overlays_are_what_the_schemas_of_kubernetes_allow(rendered: dict[str, Objects]) -> None:
    assert complaints([each for objects in rendered.values() for each in objects]) == []
    kinds = sorted(each["kind"] for each in rendered["cpu"])
    assert kinds == [
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
    ]


@pytest.mark.parametrize(
    ("kind", "path", "complaint"),
    [
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodSecond"), "unexpected"),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "readynessProbe"), "unexpected"),
        ("HorizontalPodAutoscaler", ("spec", "metrics", 0, "pods", "target", "averagevalue"), "unexpected"),
        ("PodDisruptionBudget", ("spec", "maxUnavailible"), "unexpected"),
        ("NetworkPolicy", ("spec", "policyType"), "unexpected"),
        ("Deployment", ("spec", "selector"), "is not of type"),
    ],
)
def test_misspelt_fields_are_found(
    rendered: dict[str, Objects], kind: str, path: tuple[str | int, ...], complaint: str
) -> None:
    wrong = copy.deepcopy(of_kind(rendered["cpu"], kind))
    place: Any = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 1
    (found,) = complaints([wrong])
    assert found.startswith(f"{kind} addnorm: ") and complaint in found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_variables_ports_and_probes_are_the_services(rendered: dict[str, Objects], overlay: str) -> None:
    template = pods(rendered[overlay])["addnorm"]
    (container,) = template["spec"]["containers"]
    settings = assert_settings(container)
    assert container["ports"] == [{"name": "http", "containerPort": Settings.model_fields["port"].default}]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[name]["httpGet"]
        assert probe["port"] == "http" and "get" in DOCUMENT["paths"][probe["path"]]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    drained = container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
    assert 0 < drained < settings.drain_delay
    longest = settings.drain_delay + GRACE + GRPC_GRACE
    assert template["spec"]["terminationGracePeriodSeconds"] >= longest
    assert settings.connection_age == 60
    assert template["spec"]["enableServiceLinks"] is False  # ADDNORM_PORT would be tcp://...
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] in DOCUMENT["paths"] and annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_confined(rendered: dict[str, Objects], overlay: str) -> None:
    for template in pods(rendered[overlay]).values():
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsUser"] > 0
        assert_confined(spec, container)
        assert re.search(r":\d+\.\d+\.\d+(-gpu)?$", container["image"])
    spec = pods(rendered[overlay])["addnorm"]["spec"]
    assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (10001, 10001)
    mounts = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts == {"/tmp", "/state"} and all("emptyDir" in volume for volume in spec["volumes"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_selects_pods_finds_them(rendered: dict[str, Objects], overlay: str) -> None:
    objects = rendered[overlay]
    labels = {name: template["metadata"]["labels"] for name, template in pods(objects).items()}

    def found(selector: dict[str, str]) -> list[str]:
        return [name for name, has in labels.items() if selector.items() <= has.items()]

    for each in objects:
        kind, name, spec = each["kind"], each["metadata"]["name"], each["spec"]
        owner = "addnorm-redis" if name == "addnorm-redis" else "addnorm"
        if kind == "Service":
            assert found(spec["selector"]) == [owner]
            ports = {port["name"] for port in pods(objects)[owner]["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports
        elif kind in ("Deployment", "PodDisruptionBudget"):
            assert found(spec["selector"]["matchLabels"]) == [owner]
        elif kind == "NetworkPolicy":
            assert found(spec["podSelector"]["matchLabels"]) == [owner]
            for peer in (
                peer
                for rule in spec["egress" if owner == "addnorm" else "ingress"]
                for peer in rule.get("to", rule.get("from"))
            ):
                assert "podSelector" not in peer or found(peer["podSelector"]["matchLabels"])
        elif kind == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "addnorm"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_autoscaler_goes_by_a_metric_that_the_service_has(rendered: dict[str, Objects], overlay: str) -> None:
    spec = of_kind(rendered[overlay], "HorizontalPodAutoscaler")["spec"]
    waiting, *others = spec["metrics"]
    assert waiting["pods"]["metric"]["name"] == "addnorm_queue_tokens"
    assert '"addnorm_queue_tokens"' in (ROOT / "service" / "telemetry" / "prometheus.py").read_text()
    room = Settings.model_fields["max_queue_tokens"].default
    assert int(waiting["pods"]["target"]["averageValue"]) == room // 2
    assert [each["resource"]["target"]["averageUtilization"] for each in others] == ([] if overlay == "gpu" else [70])
    assert "replicas" not in of_kind(rendered[overlay], "Deployment", "addnorm")["spec"]


def test_replicas_meet_where_there_is_somebody(rendered: dict[str, Objects]) -> None:
    settings = {}
    for overlay, objects in rendered.items():
        settings[overlay] = variables(pods(objects)["addnorm"]["spec"]["containers"][0])
        peers = of_kind(objects, "Service", "addnorm-peers")["spec"]
        assert peers["clusterIP"] == "None" and peers["ports"][0]["port"] == 8000
    for overlay in ("cpu", "gpu"):
        assert settings[overlay]["ADDNORM_PEERS"] == "dns:addnorm-peers:8000"
        assert "ADDNORM_STORE" not in settings[overlay]
    assert settings["redis"]["ADDNORM_STORE"] == "redis://addnorm-redis:6379"
    assert "ADDNORM_PEERS" not in settings["redis"]
    assert of_kind(rendered["redis"], "Service", "addnorm-redis")["spec"]["ports"][0]["port"] == 6379
    egress = of_kind(rendered["redis"], "NetworkPolicy", "addnorm")["spec"]["egress"]
    assert any(port["port"] == "redis" for rule in egress for port in rule["ports"])


def test_names_can_be_changed_as_the_document_says(shared_path: Path, tmp_path: Path) -> None:
    document = (ROOT / "docs" / "kubernetes.md").read_text()
    (changes,) = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(namePrefix.+?)```", document, re.S)]
    changes["resources"] = [os.path.relpath(ROOT / folder, tmp_path) for folder in changes["resources"]]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(changes))
    objects = Tools(shared_path / "kubernetes-tools").kustomize(tmp_path)
    assert complaints(objects) == []
    (container,) = pods(objects)["mine-addnorm"]["spec"]["containers"]
    assert variables(container)["ADDNORM_PEERS"] == "dns:mine-addnorm-peers:8000"
    own = {"app.kubernetes.io/instance": "mine"}
    for each in objects:
        if each["kind"] == "Service":
            assert own.items() <= each["spec"]["selector"].items() and each["metadata"]["name"].startswith("mine-")


def test_redis_keeps_nothing_on_disk_and_less_than_its_container_may_have(rendered: dict[str, Objects]) -> None:
    (container,) = pods(rendered["redis"])["addnorm-redis"]["spec"]["containers"]
    options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
    assert options["--save"] == "" and options["--appendonly"] == "no"
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Mi") and int(options["--maxmemory"].removesuffix("mb")) < int(limit.removesuffix("Mi"))


def test_gpu_overlay_asks_for_a_gpu_and_uses_it(rendered: dict[str, Objects]) -> None:
    (container,) = pods(rendered["gpu"])["addnorm"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert variables(container)["ADDNORM_DEVICE"] == "cuda"
    assert container["image"] == f"addnorm:{VERSION}-gpu"
    assert pods(rendered["cpu"])["addnorm"]["spec"]["containers"][0]["image"] == f"addnorm:{VERSION}"
