"""A model whose batches take long runs in a thread, so that others are answered meanwhile."""

import asyncio
import time
from unittest.mock import patch

import pytest

from runtime.artifact import Artifact
from runtime.graph.encoder import PROBE, Encoder
from runtime.graph.texts import make_input_encoder
from service.batching.executors import LoopExecutor, ThreadExecutor
from service.inference.engine import SLOW, Engine
from tests.conftest import settings_for


def test_time_of_a_token_is_measured(text_encoder: Encoder, feature_encoder: Encoder, rerank_artifact: Artifact):
    for encoder in (text_encoder, feature_encoder, Encoder(rerank_artifact)):
        assert 0 < encoder.token_seconds() * PROBE < 1


def test_only_slow_models_run_in_a_thread(text_artifact: Artifact):
    settings = settings_for(text_artifact)
    for seconds, kind in (0.9 * SLOW / 512, LoopExecutor), (1.1 * SLOW / 512, ThreadExecutor):
        with patch.object(Encoder, "token_seconds", return_value=seconds):
            assert isinstance(Engine(settings).batcher.executor, kind)


def test_slow_models_of_a_process_share_a_thread(text_artifact: Artifact, embedding_artifact: Artifact):
    with patch.object(Encoder, "token_seconds", return_value=SLOW):
        one, other = (
            Engine(settings_for(artifact)).batcher.executor for artifact in (text_artifact, embedding_artifact)
        )
    assert isinstance(one, ThreadExecutor) and isinstance(other, ThreadExecutor)
    assert one.thread is other.thread
    asyncio.run(one.close())
    assert other.thread.submit(int).result() == 0


def test_a_slow_model_lets_no_more_wait_than_runs_within_five_seconds(text_artifact: Artifact):
    with patch.object(Encoder, "token_seconds", return_value=0.002):
        batcher = Engine(settings_for(text_artifact)).batcher
    assert batcher.queue_limit.tokens == pytest.approx(2500)  # before anything has run
    assert batcher.queue.token_seconds == 0.002


def test_the_event_loop_goes_on_while_a_slow_model_runs(text_artifact: Artifact):
    with patch.object(Encoder, "token_seconds", return_value=SLOW):
        engine = Engine(settings_for(text_artifact))
    run = engine.encoder.run

    def slow_run(*arguments: object) -> object:
        time.sleep(0.3)
        return run(*arguments)  # type: ignore[arg-type]

    async def main() -> None:
        with patch.object(engine.encoder, "run", slow_run):
            answer = asyncio.get_running_loop().create_future()
            engine.submit(engine.encode("hi"), answer)
            rounds = 0
            while not answer.done():
                await asyncio.sleep(0.001)
                rounds += 1
            assert rounds > 30
            await engine.close()

    asyncio.run(main())


def test_a_probe_fits_every_model(embedding_artifact: Artifact):
    """It has as many tokens as the model reads, at most."""
    assert make_input_encoder(embedding_artifact).max_tokens < PROBE
    Encoder(embedding_artifact).token_seconds()
