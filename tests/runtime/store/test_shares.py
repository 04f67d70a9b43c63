"""What replicas tell one another: the newest holds, whatever comes when, and what is none is refused."""

from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import StateError
from runtime.statistics.state import NormState, SparseState
from runtime.store.binary import pack_deep, pack_figures, pack_whole
from runtime.store.document import bucket_to_dict
from runtime.store.shares import FIGURES, WHOLE, Published, Replica, Share, Shelf, is_over, lifetime, merged

PLACE = ("window-10", 7)


def share(kind: str, sequence: int, content: bytes) -> Share:
    return Share(*PLACE, kind, sequence, content)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), min_size=1))
def test_highest_sequence_of_each_replica_holds(writes: list[tuple[str, int]]):
    shelf = Shelf()
    for replica, sequence in [*writes, *reversed(writes)]:  # doubled, and in another order
        shelf.put(replica, share(WHOLE, sequence, b"%d" % sequence))
    found = {replica: held.sequence for (replica, _), held in shelf.held[PLACE].items()}
    assert found == {replica: max(n for who, n in writes if who == replica) for replica, _ in writes}


def test_replicas_are_added_up_and_some_left_out(text_artifact: Artifact):
    state = SparseState.compress(read_baseline(text_artifact).state)
    shares = {(who, WHOLE): share(WHOLE, 1, pack_whole(state)) for who in "abc"}
    found, errors = merged(text_artifact.manifest, PLACE, shares, frozenset("c"))
    assert isinstance(found, SparseState) and not errors
    assert (found.requests, found.tokens) == (2 * state.requests, 2 * state.tokens)
    assert (found.counts == 2 * state.counts).all() and (found.places == state.places).all()
    assert merged(text_artifact.manifest, PLACE, shares, frozenset("abc")) == (None, [])


def test_newer_figures_take_the_histograms_of_before(text_artifact: Artifact):
    before = SparseState.compress(read_baseline(text_artifact).state)
    whole = read_baseline(text_artifact).state
    newest = SparseState.compress(whole.merge(whole))
    both = {("a", FIGURES): share(FIGURES, 2, pack_figures(newest)), ("a", WHOLE): share(WHOLE, 1, pack_whole(before))}
    found, _ = merged(text_artifact.manifest, PLACE, both)
    assert isinstance(found, SparseState)
    assert (found.requests, found.counts.tolist()) == (newest.requests, before.counts.tolist())
    both["a", WHOLE] = share(WHOLE, 2, pack_whole(newest))
    found, _ = merged(text_artifact.manifest, PLACE, both)
    assert found is not None and bucket_to_dict(found) == bucket_to_dict(newest)


def test_what_fits_no_layer_is_left_out(text_artifact: Artifact, feature_artifact: Artifact):
    deep = read_baseline(feature_artifact).deep
    assert deep is not None
    empty = SparseState.compress(NormState.empty(text_artifact.manifest.layers[:1]))
    good = pack_whole(SparseState.compress(read_baseline(text_artifact).state))
    for content in (pack_whole(empty), pack_figures(empty), pack_deep(deep), b"", b"garbage"):
        shares = {("a", WHOLE): share(WHOLE, 1, good), ("b", WHOLE): share(WHOLE, 1, content)}
        found, (error,) = merged(text_artifact.manifest, PLACE, shares)
        assert isinstance(found, SparseState) and found.requests == 36
        assert str(error).startswith("What replica b shares ")


def test_published_comes_back():
    replica = Replica("id", "host:8000", 5.5, ("before",), 9, 3)
    published = Published(replica, 7.25, [share(WHOLE, 9, b"\x00whole"), share(FIGURES, 8, b"")])
    assert Published.unpack(published.pack(), "it") == published
    assert Replica.from_json(replica.to_json(), "it") == replica


def test_spoiled_answers_are_refused_and_nothing_else():
    random = Random(2)
    content = Published(Replica("id", "host:8000", 5.5), 7.25, [share(WHOLE, 9, b"whole" * 9)]).pack()
    for _ in range(500):
        spoiled = bytearray(content[: random.choice([len(content), random.randrange(len(content))])])
        for _ in range(random.randint(1, 5)):
            if spoiled:
                spoiled[random.randrange(len(spoiled))] = random.randrange(256)
        try:
            Published.unpack(bytes(spoiled), "it")
        except StateError as error:
            assert str(error).startswith("it gives no statistics of format 1 (")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"id": 1, "name": 2, "since": "x"}'])
def test_what_is_no_replica_is_refused(content: bytes):
    with pytest.raises(StateError, match=r"^it names no replica"):
        Replica.from_json(content, "it")


def test_buckets_are_over_a_minute_after_their_end_and_expire_with_their_ring():
    assert not is_over(PLACE, 80.0 + 60) and is_over(PLACE, 80.1 + 60)
    assert not is_over(PLACE, 80.0 + 3620, expired=True) and is_over(PLACE, 80.1 + 3620, expired=True)
    assert not is_over(("everything", 0), 1e12) and lifetime("everything") == 30 * 86_400
