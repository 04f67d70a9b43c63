import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from addnorm.cli import COMMANDS, load
from addnorm.commands.serve import Serve
from addnorm.commands.stats import Stats
from service import serve as server
from service.settings import OF_OTHERS, Settings, unknown_variables
from tests.serving import ROOT, checkout

# field -> option, variable, and what they mean
EXAMPLES = {
    "host": ("0.0.0.0", "::1"),
    "port": (0, 9000),
    "grpc_port": (9000, 8001),
    "model": (Path("models/a/1"), Path("models/b/2")),
    "name": ("intents", "reviews"),
    "models": (Path("models"), Path("elsewhere")),
    "default_model": ("texts", "signals"),
    "keep_versions": (3, 0),
    "model_control": ("explicit", "explicit"),
    "watch": (0.5, 60.0),
    "device": ("cpu", "cuda"),
    "allow_fp32": (True, True),
    "workers": (1, 4),
    "threads": (2, 3),
    "max_rows": (4, 5),
    "max_body_bytes": (6, 7),
    "max_batch_tokens": (8, 9),
    "max_queue_tokens": (10, 11),
    "head_timeout": (0.5, 2.5),
    "body_timeout": (0.5, 2.5),
    "connection_age": (60.0, 2.5),
    "connection_requests": (1000, 1),
    "timeout": (0.5, 2.5),
    "max_in_flight": (3, 4),
    "drain_delay": (1.5, 5.0),
    "state": (Path("here"), Path("there")),
    "peers": ("a:8000,dns:b:80", "http://c:1"),
    "store": ("redis://a:6379", "rediss://b:6379"),
    "deep_budget": (0.05, 0.0),
    "api_keys": ("one,two", "three"),
    "api_keys_file": (Path("keys.txt"), Path("other.txt")),
    "inference_keys": ("one,two", "three"),
    "inference_keys_file": (Path("keys.txt"), Path("other.txt")),
    "api_key_for": ("inference", "reads,metrics,health"),
    "tls_cert": (Path("cert.pem"), Path("other.pem")),
    "tls_key": (Path("key.pem"), Path("other.pem")),
    "tls_client_ca": (Path("clients.pem"), Path("other.pem")),
    "allowed_hosts": ("localhost", "a.example,*.b.example"),
    "cors_origins": ("*", "https://a.example,https://b.example"),
    "log_level": ("debug", "error"),
    "log_format": ("json", "json"),
    "access_log": (True, True),
    "slow_request": (0.5, 2.0),
    "input_log": (Path("log"), Path("inputs")),
    "input_log_share": (0.5, 0.01),
    "input_log_bytes": (1 << 16, 1 << 30),
    "input_log_texts": (True, True),
    "input_log_redact": ("[0-9]", "x"),
    "otel_endpoint": ("http://here:4318", "https://there:4318"),
}


def test_one_port_cannot_take_both_protocols():
    with pytest.raises(ValidationError, match="Port and grpc_port are both 8000: give gRPC a port of its own"):
        Settings(grpc_port=8000)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `addnorm serve` would serve."""
    calls: list[Settings] = []
    monkeypatch.setattr(server, "serve", calls.append)
    return calls


def option(field: str) -> str:
    return "--" + field.replace("_", "-")


def variable(field: str) -> str:
    return "ADDNORM_" + field.upper()


@pytest.mark.parametrize("command", [Settings, Serve, Stats])
def test_every_field_is_documented(command: type[Settings]):
    for name, field in command.model_fields.items():
        assert field.description, f"{command.__name__}.{name} has no docstring"
        assert field.description.endswith("."), f"{command.__name__}.{name} is not a sentence"


def test_every_field_has_an_example_here():
    assert Settings.model_fields.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("field", EXAMPLES)
def test_option_and_variable_both_work_and_the_option_wins(
    field: str, served: list[Settings], monkeypatch: pytest.MonkeyPatch
):
    by_option, by_variable = EXAMPLES[field]
    assert getattr(Settings(), field) not in (by_option, by_variable)
    monkeypatch.setenv(variable(field), str(by_variable))
    assert getattr(Settings(), field) == by_variable
    CliApp.run(Serve, cli_args=[])
    CliApp.run(Serve, cli_args=[option(field)] if by_option is True else [option(field), str(by_option)])
    assert [getattr(settings, field) for settings in served] == [by_variable, by_option]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "x"),
        ("port", "-1"),
        ("port", "65536"),
        ("device", "tpu"),
        ("workers", "-1"),
        ("threads", "-1"),
        ("threads", "1.5"),
        ("threads", "1025"),
        ("threads", "2147483648"),
        ("workers", "1025"),
        ("max_rows", "0"),
        ("max_body_bytes", "0"),
        ("max_batch_tokens", "0"),
        ("max_queue_tokens", "0"),
        ("timeout", "0"),
        ("timeout", "nan"),
        ("timeout", "inf"),
        ("keep_versions", "-1"),
        ("watch", "0"),
        ("log_level", "loud"),
        ("max_in_flight", "0"),
        ("connection_age", "0"),
        ("connection_age", "inf"),
        ("connection_requests", "0"),
        ("drain_delay", "-1"),
        ("api_key_for", "changes"),
        ("api_key_for", "inference,"),
        ("api_key_for", "inference reads"),
        ("log_format", "xml"),
        ("slow_request", "0"),
        ("otel_endpoint", "localhost:4318"),
        ("state", " "),
        ("input_log", " "),
        ("name", "n\nl"),
        ("name", "a\x1b[31m"),
        ("cors_origins", "example.com"),
        ("cors_origins", "https://a.example/page"),
        ("cors_origins", "https://a.example, https://"),
        ("cors_origins", "https://*.example"),
        ("cors_origins", "null/"),
        ("cors_origins", "*/"),
        ("cors_origins", "https://a.example//"),
        ("allowed_hosts", "https://svc.example"),
        ("allowed_hosts", "svc.example/"),
        ("allowed_hosts", "svc.example:http"),
        ("allowed_hosts", ":8000"),
        ("allowed_hosts", "a.example,*b.example"),
        ("allowed_hosts", "::1::"),
        ("allowed_hosts", "fe80::1%eth0"),
    ],
)
def test_values_that_cannot_be_are_refused(field: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable(field), value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert caught.value.errors()[0]["loc"] == (field,)


def test_artifact_and_repository_exclude_each_other(monkeypatch: pytest.MonkeyPatch):
    assert Settings(models=Path("models")).model == Settings().model
    with pytest.raises(ValidationError, match="leave one of them out"):
        Settings(models=Path("models"), model=Path("models/a/1"))
    monkeypatch.setenv("ADDNORM_MODEL", "models/a/1")
    with pytest.raises(ValidationError, match="leave one of them out"):
        Settings(models=Path("models"))


def test_name_is_for_one_artifact_and_not_for_many():
    assert Settings(model=Path("models/a/1"), name="b").name == "b"
    with pytest.raises(ValidationError, match="Name is for the one artifact of model, and models has many"):
        Settings(models=Path("models"), name="b")


def test_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADDNORM_PORT", "")
    assert Settings().port == 8000


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_misspelt_variables_are_told_at_the_start(tmp_path: Path):
    variables = checkout() | {"ADDNORM_TIMEOUTT": "5", "ADDNORM_API_KEY": "k", "ADDNORM_XYZ": "1", "ADDNORM_DATA": "d"}
    command = [sys.executable, "-m", "addnorm", "serve", "--model", str(tmp_path)]  # which has none: it ends
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    (line,) = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert line == (
        "WARNING addnorm.service: Variables that are no settings of the service, and are ignored: "
        "ADDNORM_API_KEY (is ADDNORM_API_KEYS meant?), ADDNORM_TIMEOUTT (is ADDNORM_TIMEOUT meant?), ADDNORM_XYZ"
    )


def test_variables_that_others_set_or_read_are_not_taken_for_misspelt_ones():
    fields = {field for name in COMMANDS for field in load(name).model_fields}
    assert fields - Settings.model_fields.keys() - {"api_key"} == OF_OTHERS
    links = ["PORT", "PORT_8000_TCP", "PORT_8000_TCP_ADDR", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP"]
    made = [f"ADDNORM_{name}" for name in links] + [f"ADDNORM_REDIS_{name}" for name in links]  # Kubernetes does
    assert not list(unknown_variables(dict.fromkeys(made, "tcp://10.0.0.1:8000")))
    others = dict.fromkeys(made[1:6] + made[7:], "10.0.0.1")
    assert not list(unknown_variables(others | {"ADDNORM_NOTHING": "", "ADDNORM": "x", "OTHER_ADDNORM_X": "x"}))
    assert list(unknown_variables({"ADDNORM_GPRC_PORT": "9000"})) == ["ADDNORM_GPRC_PORT (is ADDNORM_GRPC_PORT meant?)"]


def test_no_document_and_no_file_of_a_deployment_names_an_unknown_variable():
    places = ["Makefile", "Dockerfile", "docker-compose.yml", "README.md", "docs/**/*.md", "deploy/**/*.*"]
    texts = [path.read_text() for place in places for path in ROOT.glob(place) if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bADDNORM_[A-Z0-9_]*[A-Z0-9]\b", text)}
    assert len(named) >= len(Settings.model_fields)
    assert not list(unknown_variables(dict.fromkeys(named, "x")))
