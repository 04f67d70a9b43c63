"""C18: where the norm is, by hand, and that cells, comparisons and picture belong together."""

import pytest
import torch

from studies.batches import c18_dropout as claim
from studies.claim import Cell
from tests.studies.fakes import check, same_twice, sequences


def hidden(place: str) -> torch.Tensor:
    """What the first hidden layer makes of the rows -3 and 1."""
    network = claim.network_of(place, 0.0).train()
    first = 3 if place == "none" else 4  # parts of a hidden layer
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(claim.WIDTH)[:, : claim.FEATURES])
    rows = torch.tensor([[-3.0], [1.0]]).expand(2, claim.FEATURES)
    return network[:first](rows)[:, 0].detach()


@pytest.mark.parametrize(("place", "expected"), [("none", [0, 1]), ("before", [0, 1]), ("after", [-1, 1])])
def test_the_place_of_the_norm(place, expected):
    torch.testing.assert_close(hidden(place), torch.tensor(expected).float(), rtol=0, atol=1e-4)


def test_all_arms_start_alike():
    weights = []
    for place in claim.PLACES:
        torch.manual_seed(0)
        network = claim.network_of(place, 0.3)
        weights.append(torch.cat([each.weight.flatten() for each in network if isinstance(each, torch.nn.Linear)]))
    assert (weights[0] == weights[1]).all() and (weights[0] == weights[2]).all()


@pytest.mark.parametrize(("place", "dropout", "rows"), [("before", 0.3, 100), ("after", 0.0, 3000), ("none", 0.3, 100)])
def test_cells_are_repeatable_and_comparisons_and_picture_find_them(monkeypatch, place, dropout, rows):
    monkeypatch.setattr(claim, "STEPS", 3)
    monkeypatch.setattr(claim, "pen_digits", lambda: sequences(longest=8, features=2, count=3000))
    check(claim.CLAIM, same_twice(claim.CLAIM, Cell.of(2000, **claim.arm(place, dropout, rows), rate=0.1)))
