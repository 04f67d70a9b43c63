"""States in binary: they come back as they were, and what is no state is refused."""

from random import Random

import numpy as np
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import StateError
from runtime.statistics.deep import DeepState
from runtime.statistics.state import NormState, SparseState
from runtime.store.binary import (
    FIGURES,
    HEAD,
    MAGIC,
    pack,
    pack_deep,
    pack_figures,
    pack_whole,
    unpack,
    unpack_content,
    unpack_deep,
    unpack_sparse,
)
from runtime.store.document import bucket_to_dict, state_to_dict
from service.settings import TWIN


@pytest.fixture(scope="module")
def sparse(text_artifact: Artifact) -> SparseState:
    return SparseState.compress(read_baseline(text_artifact).state)


@pytest.fixture(scope="module")
def deep(text_artifact: Artifact) -> DeepState:
    deep = read_baseline(text_artifact).deep
    assert deep is not None
    return deep


def test_state_comes_back_to_the_last_bit(sparse: SparseState, deep: DeepState):
    assert bucket_to_dict(unpack_content("window-10", pack_whole(sparse), "it")) == bucket_to_dict(sparse)
    assert bucket_to_dict(unpack_content("deep-300", pack_deep(deep), "it")) == bucket_to_dict(deep)


def test_batch_norm_comes_back_with_its_features():
    state = read_baseline(read_artifact(TWIN)).state
    assert state.features
    assert state_to_dict(unpack_sparse(pack_whole(SparseState.compress(state)), "it").expand()) == state_to_dict(state)


def test_figures_have_all_but_histograms_and_features(sparse: SparseState):
    found = unpack_sparse(pack_figures(sparse), "it")
    whole = bucket_to_dict(sparse)
    nothing = {"histograms": {"places": [], "counts": []}, "features": {}}
    assert bucket_to_dict(found) == whole | nothing
    assert len(pack_figures(sparse)) < len(pack_whole(sparse)) / 2


def test_nothing_comes_back_as_nothing(text_artifact: Artifact):
    empty = NormState.empty(text_artifact.manifest.layers)
    assert state_to_dict(unpack_sparse(pack_whole(SparseState.compress(empty)), "it").expand()) == state_to_dict(empty)


@pytest.mark.parametrize("largest", [0, 127, 128, 2**15, 2**31, 10**15])
def test_counts_of_every_size_come_back(largest: int):
    _, (found,) = unpack(pack(FIGURES, [np.array([0, largest, -largest])]))
    assert found.tolist() == [0, largest, -largest] and found.dtype == np.int64


def test_what_is_no_state_is_refused_in_one_sentence(sparse: SparseState, deep: DeepState):
    whole = pack_whole(sparse)
    older = HEAD.pack(MAGIC, 9, FIGURES) + whole[HEAD.size :]
    for content in (b"", b"{}", b"ANST", whole[:-9], older, pack_deep(deep), pack(FIGURES, [])):
        with pytest.raises(StateError, match=r"^it is not a state of format 4 \(.*\)\.$"):
            unpack_sparse(content, "it")
    with pytest.raises(StateError):
        unpack_deep(whole, "it")


def test_spoiled_records_never_do_anything_else(sparse: SparseState):
    """Bytes of the packed arrays are changed, their lengths, and those of the compressed stream."""
    random = Random(3)
    _, arrays = unpack(pack_whole(sparse))
    whole = pack_whole(sparse)
    for _ in range(300):
        spoiled = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            spoiled[random.randrange(len(spoiled))] = random.randrange(256)
        changed = [*arrays]
        place = random.randrange(len(changed))
        changed[place] = random.choice([arrays[place][:1], arrays[place] - 2**40, arrays[place].reshape(-1, 1)])
        for content in (bytes(spoiled), pack(2, changed)):
            try:
                found = unpack_sparse(content, "it")
            except StateError:
                continue
            found.expand()
            assert found.requests >= 0 and (found.moments.count >= 0).all()
