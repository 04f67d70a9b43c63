"""How wide packs are where nobody says it: little padding, and no wider than attention between segments costs.

And where sequences lie in packs of a given width: the longest first, each in the first pack with room.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.graph.packing import FEW_TOKENS, FULL, PACK_TOKENS, TRIES, first_fit, pack
from tests.runtime.graph.test_packing import lengths, token_ids, widths


@given(lengths)
def test_few_tokens_share_one_pack_without_padding_and_many_fill_packs(lengths: list[int]):
    packs, tokens = pack(token_ids(lengths)).values.shape
    if sum(lengths) <= FEW_TOKENS:
        assert (packs, tokens) == (1, sum(lengths))
    else:
        assert tokens <= max(PACK_TOKENS + 3 + TRIES, max(lengths) + TRIES)
    everyone_alone = len(lengths) * max(lengths)
    assert sum(lengths) <= packs * tokens <= everyone_alone


@given(lengths, st.sampled_from([1, 8, 16]))
def test_of_the_widths_that_are_tried_the_one_with_the_least_padding_is_taken(lengths: list[int], step: int):
    packs, tokens = pack(token_ids(lengths), step=step).values.shape
    assert tokens % step == 0
    wanted = 1 if sum(lengths) <= FEW_TOKENS else round(sum(lengths) / PACK_TOKENS)
    narrowest = -(-max(-(-sum(lengths) // wanted), max(lengths)) // step) * step
    tried = [pack(token_ids(lengths), narrowest + place * step, step=step).values.size for place in range(TRIES)]
    assert packs * tokens == min(tried) or min(tried) < packs * tokens <= FULL * sum(lengths)


def test_pack_widens_for_a_longer_sequence():
    assert pack(token_ids([34, 24, 10])).values.shape == (2, 34)


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [([17] * 30, (30, 17)), ([13] * 30, (30, 13)), ([9] * 8, (4, 18)), ([500, 3, 3, 3], (2, 500)), ([64], (1, 64))],
)
def test_like_lengths_fill_their_packs(lengths: list[int], shape: tuple[int, int]):
    assert pack(token_ids(lengths)).values.shape == shape


@given(lengths, widths)
def test_every_sequence_lies_in_the_first_pack_with_room(lengths: list[int], width: int):
    width = max(width, max(lengths))
    packs, offsets, count = first_fit(lengths, width)
    used = [0] * len(lengths)
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        first = next(pack for pack, filled in enumerate(used) if filled + lengths[row] <= width)
        assert (packs[row], offsets[row]) == (first, used[first])
        used[first] += lengths[row]
    assert count == sum(filled > 0 for filled in used)
