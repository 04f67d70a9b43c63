"""The Ray Serve application, on a Ray of this machine with a real Redis; skipped where ray[serve] is not installed."""

import json
import os
import time
import urllib.request
from typing import Any

import pytest

from tests.service.fleet.conftest import Redis, free_port, needs_redis, redis
from tests.serving import checkout

__all__ = ["redis"]  # the fixture
ray = pytest.importorskip("ray", reason="ray[serve] is not installed: pip install 'ray[serve]==2.60.0'")
pytestmark = [needs_redis, pytest.mark.filterwarnings("ignore")]  # Ray's own


def ask(port: int, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", content, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_replicas_answer_and_their_statistics_are_one_services(redis: Redis):
    from ray import serve

    port = free_port()
    variables = {"ADDNORM_STORE": redis.url, "ADDNORM_DEVICE": "cpu", "ADDNORM_THREADS": "1"}
    path = os.pathsep.join([checkout()["PYTHONPATH"], os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": variables | {"PYTHONPATH": path}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        from deploy.ray.serve import AddNorm

        serve.run(AddNorm.options(num_replicas=2, ray_actor_options={"num_cpus": 0.5}).bind())
        for _ in range(40):
            answer = ask(port, "predict", {"inputs": ["what is my balance", "will it rain"]})
        assert [row["label"] for row in answer["predictions"]] == ["balance", "weather"]
        deadline = time.monotonic() + 20
        while (found := ask(port, "norm-stats"))["requests"] < 80 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (found["requests"], found["fleet"]["replicas"], found["fleet"]["trouble"]) == (80, 2, "")
    finally:
        serve.shutdown()
        ray.shutdown()
