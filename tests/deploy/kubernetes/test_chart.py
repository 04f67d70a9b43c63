"""The Helm chart: linted and rendered by a real helm, with its defaults and with everything else that it offers."""

import re
from pathlib import Path

import pytest
import yaml

from service.app import GRACE as GRPC_GRACE
from service.fleet.host import LAST_TURN
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

pytestmark = needs_tools
STORE = "networkPolicy.storeEgress[0].ports[0].port=6379"
EVERYTHING = (
    *("--set", "gpu.enabled=true,gpu.count=2,replicas=5,hpa.enabled=false,peers=false,scrape=false"),
    *("--set", "models.claim=encoders,models.default=intents,models.watch=30"),
    *("--set", "apiKeys.secret=keys,apiKeys.neededFor=inference,settings.ADDNORM_TIMEOUT=10"),
    *("--set", "image.repository=registry.example/addnorm,image.tag=1.2.3,image.pullSecrets[0]=registry"),
    *("--set", "podDisruptionBudget.enabled=false,networkPolicy.enabled=false,connectionAge=0,storeSecret=redis"),
    *("--set", "nodeSelector.disk=ssd,podAnnotations.a=b,podLabels.c=d,service.type=LoadBalancer"),
)
FIXED = {
    f"ADDNORM_{name}" for name in ("HOST", "PORT", "STATE", "MODEL", "NAME", "TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA")
}
AS_NUMBERS = """
drainDelay: 0.5
connectionAge: 86400
grpc: {port: 9000}
models: {claim: encoders, watch: 3600}
settings: {ADDNORM_MAX_BODY_BYTES: 16777216, ADDNORM_INPUT_LOG_BYTES: 1000000, ADDNORM_DEEP_BUDGET: 0.005,
           ADDNORM_ACCESS_LOG: true, ADDNORM_ALLOW_FP32: true}
"""


@pytest.fixture(scope="module")
def tools(shared_path: Path) -> Tools:
    return Tools(shared_path / "kubernetes-tools")


@pytest.fixture(scope="module")
def plain(tools: Tools) -> Objects:
    return tools.template()


@pytest.fixture(scope="module")
def everything(tools: Tools) -> Objects:
    return tools.template(*EVERYTHING, release="mine")


def test_chart_is_well_formed_and_what_it_makes_too(tools: Tools, plain: Objects, everything: Objects) -> None:
    assert "0 chart(s) failed" in tools.text("helm", "lint", "--strict", str(KUBERNETES / "chart"))
    on_gpu = tools.template("--set", "gpu.enabled=true", "--set", "store=redis://a:6379", "--set", STORE)
    assert complaints([*plain, *everything, *on_gpu]) == []
    metrics = of_kind(on_gpu, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Pods"]


def test_defaults_are_those_of_the_kustomize_base(tools: Tools, plain: Objects) -> None:
    base = tools.kustomize(KUBERNETES / "overlays" / "cpu")
    assert {(each["kind"], each["metadata"]["name"]) for each in plain} == {
        (each["kind"], each["metadata"]["name"]) for each in base
    }
    ours, theirs = pods(plain)["addnorm"]["spec"], pods(base)["addnorm"]["spec"]
    ours["securityContext"].pop("fsGroupChangePolicy")
    for spec in (ours, theirs):
        spec.pop("topologySpreadConstraints")
        (container,) = spec["containers"]
        container.pop("imagePullPolicy", None)
        container["env"] = variables(container)
    assert ours == theirs
    for kind, field in (("HorizontalPodAutoscaler", "metrics"), ("HorizontalPodAutoscaler", "behavior")):
        assert of_kind(plain, kind)["spec"][field] == of_kind(base, kind)["spec"][field]


def test_values_end_where_they_belong(everything: Objects) -> None:
    deployment = of_kind(everything, "Deployment", "mine-addnorm")
    assert deployment["spec"]["replicas"] == 5
    assert {each["kind"] for each in everything} == {"Deployment", "Service"}
    spec = pods(everything)["mine-addnorm"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "registry.example/addnorm:1.2.3"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert_confined(spec, container)
    given = variables(container)
    assert given.keys() >= {"ADDNORM_STORE", "ADDNORM_API_KEYS", "ADDNORM_INFERENCE_KEYS"}
    assert not given.keys() & {"ADDNORM_PEERS", "ADDNORM_CONNECTION_AGE"}
    settings = assert_settings(container)
    assert (str(settings.models), settings.default_model, settings.watch) == ("/models", "intents", 30)
    assert (settings.device, settings.timeout, settings.api_key_for) == ("cuda", 10, "inference")
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
    assert mount == {"name": "models", "mountPath": "/models", "readOnly": True}
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "models"]
    assert volume["persistentVolumeClaim"] == {"claimName": "encoders", "readOnly": True}


def test_numbers_of_a_values_file_stay_what_they_are(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(AS_NUMBERS)
    (container,) = pods(tools.template("-f", str(tmp_path / "values.yaml")))["addnorm"]["spec"]["containers"]
    settings, given = assert_settings(container), variables(container)
    assert (settings.max_body_bytes, settings.input_log_bytes, settings.deep_budget) == (16777216, 1000000, 0.005)
    assert (settings.drain_delay, settings.connection_age, settings.watch) == (0.5, 86400, 3600)
    assert settings.grpc_port == 9000 and settings.access_log and settings.allow_fp32
    assert given["ADDNORM_MAX_BODY_BYTES"] == "16777216" and given["ADDNORM_DRAIN_DELAY"] == "0.5"


def test_port_for_grpc_is_opened_everywhere(tools: Tools, plain: Objects) -> None:
    objects = tools.template("--set", "grpc.port=9000")
    assert complaints(objects) == []
    (container,) = pods(objects)["addnorm"]["spec"]["containers"]
    assert container["ports"][1:] == [{"name": "grpc", "containerPort": assert_settings(container).grpc_port}]
    for name in ("addnorm", "addnorm-peers"):
        _, port = of_kind(objects, "Service", name)["spec"]["ports"]
        assert (port["name"], port["port"], port["targetPort"]) == ("grpc", 9000, "grpc")
    (rule,) = of_kind(objects, "NetworkPolicy")["spec"]["ingress"]
    assert {"protocol": "TCP", "port": "grpc"} in rule["ports"]
    assert "grpc" not in str(plain).lower()


def test_values_of_a_release_from_before_grpc_are_enough(tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("grpc: null\n")  # as helm upgrade --reuse-values has them
    assert tools.template("-f", str(tmp_path / "values.yaml")) == tools.template()


@pytest.mark.parametrize(("option", "more"), [("peers=true", LAST_TURN), ("peers=false", 0)])
def test_pods_are_given_the_time_that_a_stop_takes(tools: Tools, option: str, more: float) -> None:
    longest = int(60 + GRACE + GRPC_GRACE + more)
    tools.template("--set", f"drainDelay=60,{option},terminationGracePeriodSeconds={longest}")
    with pytest.raises(AssertionError, match=f"terminationGracePeriodSeconds must be at least {longest}: drainDelay"):
        tools.template("--set", f"drainDelay=60,{option},terminationGracePeriodSeconds={longest - 1}")


def test_two_releases_do_not_meet(plain: Objects, everything: Objects) -> None:
    selectors = [of_kind(each, "Deployment")["spec"]["selector"]["matchLabels"] for each in (plain, everything)]
    for objects, other in ((plain, selectors[1]), (everything, selectors[0])):
        for each in objects:
            if each["kind"] == "Service":
                assert not other.items() <= each["spec"]["selector"].items()
                assert not each["spec"]["selector"].items() <= other.items()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("hpa.maxreplicas=3", "additional properties 'maxreplicas' not allowed"),
        ("settings.TIMEOUT=3", "invalid propertyName 'TIMEOUT'"),
        ("settings.ADDNORM_PORT=9000", "invalid propertyName 'ADDNORM_PORT'"),  # the probes ask 8000
        ("apiKeys.neededFor=health", "does not match pattern"),
        ("store=redis://a:6379", "networkPolicy.storeEgress must say where the store is"),
        ("hpa.queueTokens=0,hpa.cpu=0", "hpa needs queueTokens, or cpu without a GPU"),
        ("hpa.maxReplicas=0", "at '/hpa/maxReplicas': minimum: got 0, want 1"),
        ("hpa.minReplicas=11", "hpa.minReplicas is more than hpa.maxReplicas"),
        ("apiKeys.neededFor=inference", "apiKeys.neededFor needs keys: name their Secret in apiKeys.secret"),
        ("models.default=intents", "models.default and models.watch are for the models of a volume"),
        ("models.watch=30", "models.default and models.watch are for the models of a volume"),
        ("settings.ADDNORM_GRPC_PORT=9000", "settings.ADDNORM_GRPC_PORT opens no port: set grpc.port"),
        ("settings.ADDNORM_TIMEOUTT=5", "invalid propertyName 'ADDNORM_TIMEOUTT'"),
        ("grpc.port=8000", "grpc.port must be another than 8000"),
        ("grpc.port=80", "and than service.port"),
    ],
)
def test_values_that_cannot_be_are_refused(tools: Tools, option: str, sentence: str) -> None:
    with pytest.raises(AssertionError) as caught:
        tools.template("--set", option)
    assert sentence in str(caught.value)


def test_schema_knows_every_value_and_settings_are_settings() -> None:
    values = yaml.safe_load((KUBERNETES / "chart" / "values.yaml").read_text())
    schema = yaml.safe_load((KUBERNETES / "chart" / "values.schema.json").read_text())

    def check(values: dict[str, object], schema: dict[str, object]) -> None:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return
        assert values.keys() == properties.keys() - {"global"} and schema["additionalProperties"] is False
        for name, value in values.items():
            if isinstance(value, dict):
                check(value, properties[name])

    check(values, schema)
    known = {f"ADDNORM_{name.upper()}" for name in Settings.model_fields}
    sets = set(re.findall(r"name: (ADDNORM_\w+)", (KUBERNETES / "chart" / "templates" / "_helpers.tpl").read_text()))
    allowed = set(schema["properties"]["settings"]["propertyNames"]["enum"])
    assert allowed == known - (sets - {"ADDNORM_GRPC_PORT"}) - FIXED and values["settings"].keys() <= allowed
