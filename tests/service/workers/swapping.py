"""Real services over a model repository, and what is done to it while they answer, for tests."""

import json
from contextlib import AbstractContextManager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from runtime.artifact import Artifact
from runtime.manifest import MODEL
from tests.helpers import publish, wrong_canary
from tests.service.workers.clients import BODY
from tests.service.workers.processes import Service, post, serving


def swapping(directory: Path, *options: str, workers: str = "2", **variables: str) -> AbstractContextManager[Service]:
    """A service of what is in `directory`."""
    return serving(
        "--workers", workers, "--models", str(directory), "--model-control", "explicit", *options, **variables
    )


def load(connection: HTTPConnection, name: str, **parameters: str) -> tuple[int, Any]:
    return post(connection, f"/v2/repository/models/{name}/load", json.dumps({"parameters": parameters}))


def unload(connection: HTTPConnection, name: str) -> tuple[int, Any]:
    return post(connection, f"/v2/repository/models/{name}/unload")


def index(connection: HTTPConnection) -> dict[tuple[str, str], str]:
    """The state of every version, by the model's name and the version."""
    status, entries = post(connection, "/v2/repository/index")
    assert status == 200
    return {(entry["name"], entry["version"]): entry["state"] for entry in entries}


def spoil(path: Path, how: str, artifact: Artifact) -> None:
    """Breaks what was published of `artifact` in `path`: its "hash", a "missing" file, or its "canary"."""
    if how == "hash":
        (path / MODEL).write_bytes(b"half")
    elif how == "missing":
        (path / MODEL).unlink()
    else:
        publish(path.parents[1], "texts", path.name, artifact, wrong_canary(artifact))


def answers_everywhere(service: Service, version: str) -> None:
    for connection in service.connect_to_each().values():
        assert post(connection, "/predict", BODY)[1]["version"] == version
        connection.close()
