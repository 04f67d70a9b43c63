"""Probes that ask with HEAD."""

import httpx
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.registry import ModelRegistry
from tests.apps import make_app
from tests.conftest import settings_for
from tests.live import Live

PATHS = ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_as_get_without_a_body(live: Live, path: str):
    whole, head = (httpx.request(method, f"{live.url}{path}", trust_env=False) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (whole.status_code, b"") == (200, b"")
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]


def test_head_says_that_the_default_model_is_not_loaded(text_artifact: Artifact):
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(default_name="texts"))) as client:
        assert client.head("/health/ready").status_code == 503
        assert client.head("/v2/health/ready").status_code == 200
