"""Pairs of texts, as cross-encoders read them."""

import numpy as np
import pytest

from runtime.graph.texts import MARGIN
from tests.runtime.graph.test_texts import CLS, IDS, SEP, encoder, ids


def test_a_pair_has_both_texts_and_their_types():
    (item,) = encoder(pairs=True, type_ids=True).encode([["what is", "rain"]])
    assert item.tokens[:, 0].tolist() == ids("what is", "rain")
    assert item.tokens[:, 1].tolist() == [0, 0, 0, 0, 1, 1]
    assert (item.tokens.dtype, item.truncated) == (np.int64, False)


def test_a_pair_without_types_is_ids_alone():
    (item,) = encoder(pairs=True).encode([["what is", "rain"]])
    assert item.tokens.tolist() == ids("what is", "rain")


@pytest.mark.parametrize(
    ("pair", "lengths"),
    [((2, 9), (2, 3)), ((9, 2), (3, 2)), ((1, 50), (1, 4)), ((50, 1), (4, 1)), ((2, 3), (2, 3))],
    ids=str,
)
def test_of_a_pair_the_longer_text_is_cut(pair: tuple[int, int], lengths: tuple[int, int]):
    (item,) = encoder(pairs=True, type_ids=True).encode([["what " * pair[0], "rain " * pair[1]]])
    expected = [CLS, *[IDS["what"]] * lengths[0], SEP, *[IDS["rain"]] * lengths[1], SEP]
    assert item.tokens[:, 0].tolist() == expected
    assert item.truncated == (pair != lengths)


@pytest.mark.parametrize("pair", [(3_000, 3_000), (3_000, 2), (2, 3_000), (45, 45)], ids=str)
def test_a_long_pair_is_read_as_if_all_of_it_had_been_tokenized(pair: tuple[int, int]):
    """The tokenizer gets little more than is read: it would make a piece for each two pieces that are cut off."""
    words = [" ".join(["what is my balance", "zero rain"][number % 2] for number in range(count)) for count in pair]
    texts = encoder(pairs=True, type_ids=True)
    (item,) = texts.encode([list(words)])
    whole = texts.tokenizer.encode(*[" ".join(text.split()[:60]) for text in words])
    assert (item.tokens[:, 0].tolist(), item.tokens[:, 1].tolist()) == (whole.ids, whole.type_ids)
    assert item.truncated
    (given,) = texts._rows([list(words)], None)
    assert max(len(text.split()) for text in given) <= 8 + MARGIN
    assert len(texts.tokenizer.encode(*given).overflowing) < 300  # of 3,000 words each a million


def test_a_query_is_looked_at_once_for_all_documents(monkeypatch: pytest.MonkeyPatch):
    texts, seen = encoder(pairs=True), []
    monkeypatch.setattr(texts, "_part", lambda text: seen.append(text) or text)
    texts.encode([["what is", document] for document in ("rain", "balance", "rain")])
    assert seen == ["what is", "rain", "balance"]
