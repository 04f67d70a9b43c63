"""A flood of questions about statistics leaves the event loop to the predictions."""

import asyncio
import json
import threading
import time

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import UnknownModel
from runtime.store.shares import Published
from service.api import norm_stats
from service.api.norm_stats import REST, Reports
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import AllLayers, Query, WindowQuery
from tests.apps import make_app
from tests.conftest import serve, settings_for

QUERY = AllLayers(WindowQuery())


class Slow:
    """Statistics that take their time, and say how many ask at once."""

    def __init__(self) -> None:
        self.asked = self.at_once = 0
        self.lock = threading.Lock()

    def report(self, _: Query) -> bytes:
        with self.lock:
            self.asked, now = self.asked + 1, self.at_once + 1
            self.at_once = now
        time.sleep(0.01)
        assert now == 1
        self.at_once -= 1
        return b"{}"


def test_questions_run_one_at_a_time_and_a_quarter_of_the_time() -> None:
    reports, slow = Reports(), Slow()

    async def main() -> float:
        started = time.monotonic()
        await asyncio.gather(*(reports.answer(slow, QUERY) for _ in range(8)))  # type: ignore[arg-type]
        return time.monotonic() - started

    assert asyncio.run(main()) >= 7 * 0.01 * (1 + REST)
    assert slow.asked == 8


def test_question_that_fails_or_is_given_up_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_stats, "LONGEST_REST", 0.01)
    reports, slow = Reports(), Slow()

    class Failing(Slow):
        def report(self, _: Query) -> bytes:
            raise UnknownModel("It is gone.")

    async def main() -> None:
        with pytest.raises(UnknownModel):
            await reports.answer(Failing(), QUERY)  # type: ignore[arg-type]
        waiting = [asyncio.create_task(reports.answer(slow, QUERY)) for _ in range(3)]  # type: ignore[arg-type]
        await asyncio.sleep(0.002)
        waiting[1].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done] == [False, True, False]

    asyncio.run(main())


@pytest.mark.parametrize("peers", ["", "127.0.0.1:1"])
def test_only_a_service_with_peers_tells_what_it_counted(
    text_engine: Engine, text_artifact: Artifact, peers: str
) -> None:
    """Elsewhere that path is one of a layer that there is not."""
    settings = settings_for(text_artifact).model_copy(update={"peers": peers})
    for client in serve(settings, text_engine):
        digest = text_artifact.manifest.digest
        found = client.get("/norm-stats/exchange", params={"digest": digest})
        assert "/norm-stats/exchange" not in client.get("/openapi.json").json()["paths"]
        if peers:
            assert Published.unpack(found.content, "it").shares is not None
            assert client.get("/norm-stats/exchange", params={"digest": "other"}).status_code == 404
        else:
            nowhere = client.get("/norm-stats/nowhere", params={"digest": digest})
            assert found.status_code == nowhere.status_code == 404
            assert found.json() == json.loads(nowhere.text.replace("nowhere", "exchange"))


def test_peers_are_told_what_a_version_counted_at_the_last_also_when_it_is_swapped_out(
    text_engine: Engine, text_artifact: Artifact
) -> None:
    settings = settings_for(text_artifact).model_copy(update={"peers": "127.0.0.1:1"})
    models = ModelRegistry(text_engine)
    with TestClient(make_app(settings, models)) as client:
        digest = text_artifact.manifest.digest
        assert client.get("/norm-stats/exchange", params={"digest": digest}).status_code == 200
        models.replace(text_artifact.manifest.name, [])
        found = client.get("/norm-stats/exchange", params={"digest": digest})
        assert found.status_code == 200 and Published.unpack(found.content, "it").replica.id
