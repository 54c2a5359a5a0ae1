from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tests.tasks.test_cluster import rows
from tokenrank.errors import InputError
from tokenrank.tasks.anchors import anchors_of, metastable_grid, tokenrank_grid, uniform_grid


def test_the_grid_of_the_paper_is_found():
    grid = uniform_grid(64, 64, 16)
    assert len(grid) == 256
    assert (grid[:16] - 64).tolist() == list(range(1, 62, 4))
    assert (grid[::16] // 64).tolist() == list(range(1, 62, 4))


@pytest.mark.parametrize(
    ("size", "anchors", "expected"),
    [
        (5, 16, [0, 1, 2, 3, 4]),
        (5, 1, [2]),
        (1, 16, [0]),
        (10, 4, [0, 3, 6, 9]),
        (11, 4, [0, 3, 6, 9]),
        (12, 2, [0, 11]),
    ],
)
def test_sides_of_any_length_have_their_anchors(size: int, anchors: int, expected: list[int]):
    assert uniform_grid(1, size, anchors).tolist() == expected
    assert uniform_grid(size, 1, anchors).tolist() == expected


def test_no_anchor_is_refused():
    with pytest.raises(InputError, match="anchors = 0"):
        uniform_grid(4, 4, 0)


def test_anchors_by_tokenrank():
    grid = (4, 6)
    rank = rows(1, 24, 3)[0]
    falling = sorted(range(24), key=lambda i: -float(rank[i]))
    assert tokenrank_grid(rank, grid, 2, "tokenrank-top").tolist() == falling[:4]

    apart: list[int] = []
    for i in falling:  # half a stride of 2 anchors: one row of 4, 1.5 of 6 columns; at least two of both
        if all(abs(i // 6 - j // 6) >= 2 or abs(i % 6 - j % 6) >= 2 for j in apart) and len(apart) < 4:
            apart.append(i)
    assert tokenrank_grid(rank, grid, 2, "tokenrank-nms").tolist() == apart

    cells = [
        max((r * 6 + c for r in range(top, top + 2) for c in range(left, left + 3)), key=lambda i: float(rank[i]))
        for top in (0, 2)
        for left in (0, 3)
    ]
    assert tokenrank_grid(rank, grid, 2, "tokenrank-cells").tolist() == cells
    assert tokenrank_grid(rank, grid, 2, "tokenrank").tolist() == cells

    drawn = tokenrank_grid(rank, grid, 2, "tokenrank-sample", seed=5)
    assert len(set(drawn.tolist())) == 4
    assert (drawn == tokenrank_grid(rank, grid, 2, "tokenrank-sample", seed=5)).all()
    with pytest.raises(InputError, match="grid = 'best'"):
        tokenrank_grid(rank, grid, 2, "best")


def test_drawing_goes_by_tokenrank():
    rank = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    first = [int(tokenrank_grid(rank, (2, 2), 1, "tokenrank-sample", seed=s)[0]) for s in range(300)]
    assert first.count(0) / 300 == pytest.approx(0.7, abs=0.08)


def test_more_anchors_than_tokens_are_all_tokens():
    rank = rows(1, 6)[0]
    for how in ("tokenrank-top", "tokenrank-sample", "tokenrank-cells"):
        assert sorted(tokenrank_grid(rank, (2, 3), 16, how).tolist()) == [0, 1, 2, 3, 4, 5]


def test_every_metastable_state_has_as_many_anchors():
    # a small state of 2 × 3 tokens in a corner of 8 × 12, one of 3 tokens, and the rest
    own = torch.zeros(8, 12, dtype=torch.long)
    own[:2, :3], own[7, 9:] = 1, 2
    memberships = 0.1 + 0.7 * torch.nn.functional.one_hot(own.flatten()).double()
    found = metastable_grid(memberships, (8, 12), 4)
    assert len(set(found.tolist())) == 16  # as the uniform grid has
    assert found.tolist() == sorted(found.tolist())
    assert own.flatten()[found].bincount().tolist() == [7, 6, 3]  # of 5 each: what is too small leaves its share


def test_one_metastable_state_is_covered_as_by_the_uniform_grid():
    found = metastable_grid(torch.ones(64 * 64, 1), (64, 64), 16)
    cells = {(i // 64 // 4, i % 64 // 4) for i in found.tolist()}
    assert len(found) == len(cells) == 256  # one in every cell of 4 × 4 tokens
    odd = metastable_grid(torch.ones(5 * 9, 1), (5, 9), 16)
    assert odd.tolist() == list(range(45))


def test_more_states_than_anchors():
    found = metastable_grid(torch.eye(12), (3, 4), 1)
    assert len(found) == 1


def test_anchors_of_a_chain():
    side = torch.arange(24) % 6 < 2
    weights = (4.0 * (side[:, None] == side) + rows(24, 24)).softmax(-1)
    chain = tr.AttentionChain(weights, tr.TokenLayout({"image": 24}, {"image": (4, 6)}))
    rank = chain.tokenrank().values
    assert anchors_of(chain, (4, 6), 2).tolist() == uniform_grid(4, 6, 2).tolist()
    assert anchors_of(chain, (4, 6), 2, "tokenrank").tolist() == tokenrank_grid(rank, (4, 6), 2).tolist()
    sparse = anchors_of(chain, (4, 6), 2, "metastable")
    assert side[sparse].sum() == 2  # of four: the narrow side has a third of the tokens
    ranked = anchors_of(chain, (4, 6), 2, "uniform", sort=True)
    assert set(ranked.tolist()) == set(uniform_grid(4, 6, 2).tolist())
    assert (rank[ranked].diff() <= 0).all()
    with pytest.raises(InputError, match="grid = 'hexagons', expected one of uniform, tokenrank"):
        anchors_of(chain, (4, 6), 2, "hexagons")  # type: ignore[arg-type]
