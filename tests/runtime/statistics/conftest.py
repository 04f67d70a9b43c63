import pytest

from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from tests.helpers import random_sequences


@pytest.fixture(params=["text", "feature"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return request.getfixturevalue(f"{request.param}_encoder")


@pytest.fixture
def batches(request: pytest.FixtureRequest, encoder: Encoder) -> list[EncodedBatch]:
    """Twelve batches of one to twelve random sequences."""
    kind = encoder.manifest.inputs.kind.removesuffix("s")
    served = request.getfixturevalue(f"{kind}_export")[1]
    return [encoder.run(random_sequences(served, rows, seed=rows)) for rows in range(1, 13)]
