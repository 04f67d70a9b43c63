"""Alerts and dashboard ask for what a real service tells, as a real Prometheus reads it."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import parser

from service.settings import EMBEDDED
from tests.prometheus import prometheus
from tests.serving import served

DEPLOY, ALERTS = Path(__file__).parents[2] / "deploy", Path(__file__).parent / "alerts.yml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yml"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "addnorm.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
MADE_BY_PROMETHEUS = {"up", "ALERTS"}
NAME = re.compile(r"\b(?:addnorm_\w+|process_\w+|up|ALERTS)\b(?!\s*=)")
TEXTS = ["how much money do i have in my account", "play some music", "what is the weather like in paris today"]
VARIED = [f"{text} {more * times}" for text in TEXTS for more in ("please ", "again ") for times in range(1, 13)]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed"
)
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def promtool(*arguments: str | Path) -> None:
    run = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


@needs_promtool
def test_configuration_and_rules_are_well_formed() -> None:
    promtool("check", "config", CONFIG)


@needs_promtool
def test_every_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", ALERTS)


def test_every_alert_is_tested_both_ways_and_says_what_to_do() -> None:
    cases = [case for test in yaml.safe_load(ALERTS.read_text())["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert names == {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert names == {case["alertname"] for case in cases if not case.get("exp_alerts")}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


def test_documents_that_alerts_name_exist() -> None:
    named = {name for rule in RULES for name in re.findall(r"docs/[\w.]+\.md", rule["annotations"]["description"])}
    assert named and all((DEPLOY.parent / name).exists() for name in named)


def test_names_are_those_of_a_real_scrape() -> None:
    with served() as url, httpx.Client(base_url=url, trust_env=False) as client:
        client.post("/predict", json={"inputs": VARIED}).raise_for_status()
        families = list(parser.text_string_to_metric_families(client.get("/metrics").text))
    told = {sample.name for family in families for sample in family.samples}
    expressions = [rule["expr"] for rule in RULES] + list(EXPRESSIONS.values())
    asked = {name for expression in expressions for name in NAME.findall(expression)}
    assert len(asked) > 20
    assert asked <= told | MADE_BY_PROMETHEUS


def test_dashboard_is_provisioned_over_the_datasource_that_is() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    chosen = next(each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource")
    assert chosen["current"]["value"] == source["uid"] and chosen["query"] == source["type"] == "prometheus"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    interval = yaml.safe_load(CONFIG.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_panels_tell_models_apart() -> None:
    targets = [target for panel in PANELS for target in panel["targets"] if target.get("format") != "table"]
    of_models = [target["legendFormat"] for target in targets if "$model" in target["expr"]]
    assert len(of_models) >= 10
    assert all("{{model}}" in legend and "{{version}}" in legend for legend in of_models), of_models


def test_dashboard_knows_the_service_by_its_metrics_whatever_the_job_is_called() -> None:
    every = [*EXPRESSIONS.values(), *(each["expr"] for each in DASHBOARD["annotations"]["list"])]
    common = [expression for expression in every if "process_" in expression]  # every Python program has these
    assert len(common) == 3 and not any("job=" in expression for expression in every)
    assert all(expression.endswith(" and on (job, instance) addnorm_workers") for expression in common)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken
        taken |= cells


def scraping(directory: Path, target: str) -> AbstractContextManager[httpx.Client]:
    """The stack's Prometheus, but for where the service is and how often it is asked."""
    config: Any = yaml.safe_load(CONFIG.read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "rules.yml")]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    del job["dns_sd_configs"]
    return prometheus(directory, config)


@contextmanager
def traffic(url: str) -> Iterator[None]:
    """Somebody who asks all the time, now and then wrongly."""
    stopped = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, trust_env=False) as client:
            while not stopped.wait(0.02):
                client.post("/predict", json={"inputs": VARIED})
                client.post("/predict", content=b"{")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def values(client: httpx.Client, expression: str) -> list[float]:
    """What an expression of the dashboard gives, with everything chosen.

    Raises:
        AssertionError: Prometheus does not understand it.
    """
    query = re.sub(r"\$(instance|model|version)\b", ".*", expression).replace("$__rate_interval", "4s")
    assert "$" not in query
    try:
        answer = client.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:  # it is not up yet
        return []
    if answer.status_code == 503:
        return []
    assert answer.status_code == 200, f"{expression}: {answer.text}"
    return [float(series["value"][1]) for series in answer.json()["data"]["result"]]


@needs_prometheus
def test_every_expression_of_the_dashboard_gives_data(tmp_path: Path) -> None:
    alone = served("--model", str(EMBEDDED))
    with alone as url, traffic(url), scraping(tmp_path, url.removeprefix("http://")) as client:
        missing, deadline = dict(EXPRESSIONS), time.monotonic() + 40
        while missing:
            assert time.monotonic() < deadline, f"no data for {missing}"
            missing = {title: e for title, e in missing.items() if not any(map(isfinite, values(client, e)))}
            time.sleep(0.2)
        for rule in RULES:
            values(client, rule["expr"])  # understood, whether or not there is something to alert about
        (starts,) = [each["expr"] for each in DASHBOARD["annotations"]["list"]]
        values(client, starts)
        (verdict,) = [e for title, e in EXPRESSIONS.items() if title.startswith("Verdict on")]
        assert set(values(client, verdict)) <= {1.0, 2.0}  # three texts over and over are not ordinary traffic


@needs_prometheus
def test_verdict_of_too_little_traffic_is_not_called_ok(tmp_path: Path) -> None:
    (verdict,) = [e for title, e in EXPRESSIONS.items() if title.startswith("Verdict on")]
    with served("--model", str(EMBEDDED)) as url, scraping(tmp_path, url.removeprefix("http://")) as client:
        deadline = time.monotonic() + 30
        while not (found := values(client, verdict)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found == [-1.0]
