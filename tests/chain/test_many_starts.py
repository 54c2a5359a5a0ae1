"""Several starts at once: each walk is what it would be alone, and what can be read in two ways is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank import AttentionChain, TokenLayout, at
from tokenrank.errors import ChainError, NotFoundError
from tokenrank.operators import reverse

N, HEADS = 6, 3
LAYOUT = TokenLayout.image(2, 2, cls_tokens=2)
TEXT = TokenLayout.text(["the", "cat", "on", "a", "red", "mat"])


def chain(batch: tuple[int, ...] = (), kind: str = "weights", layout: TokenLayout | None = LAYOUT) -> AttentionChain:
    g = torch.Generator().manual_seed(7)
    if kind == "weights":
        return AttentionChain(torch.randn(*batch, N, N, generator=g, dtype=torch.float64).softmax(-1), layout)
    q, k = 2 * torch.randn(2, *batch, N, 4, generator=g)
    return AttentionChain.from_qk(q, k, is_causal=kind == "causal", layout=layout)


def exact(of: AttentionChain, direction: str) -> np.ndarray:
    operator = of.operator if direction == "forward" else reverse(of.operator)
    return operator.to_dense(torch.float64).numpy()


LISTS: list[Any] = [
    [[0], [3, 4], [5]],
    ([0], {1: 3.0, "image": 1.0}, range(2, 4), torch.arange(N) > 3, [0.0, 0, 1, 2, 0, 0], np.eye(N)[1]),
    [["cls"], ["image"], [at(0.1, 0.1), at(0.9, 0.9)]],
    [{0: 1}],
]


@pytest.mark.parametrize("starts", LISTS, ids=str)
@pytest.mark.parametrize("batch", [(), (HEADS,), (2, HEADS)])
@pytest.mark.parametrize("kind", ["weights", "queries and keys", "causal"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_list_of_starts_is_each_alone(starts: Any, batch: tuple[int, ...], kind: str, direction: Any) -> None:
    walks = chain(batch, kind)
    found = walks.bounce(starts, 3, direction)
    alone = torch.stack([walks.bounce(start, 3, direction).values for start in starts])
    assert found.values.shape == (len(starts), *batch, N)
    assert torch.allclose(found.values, alone, atol=1e-7, rtol=0)
    assert found.certificate is not None
    assert found.certificate.converged.shape == found.batch == (len(starts), *batch)
    assert found.certificate.error_bound is not None
    assert found.certificate.error_bound.shape == found.batch


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_rows_of_weights_against_matrix_powers(direction: Any) -> None:
    walks = chain()
    a = exact(walks, direction)
    rows = np.random.default_rng(0).random((50, N))
    for n in (0, 1, 4):
        expected = rows / rows.sum(1, keepdims=True) @ np.linalg.matrix_power(a, n)
        for starts in (rows, 3 * torch.from_numpy(rows), rows.tolist()):
            assert np.abs(walks.bounce(starts, n, direction).values.numpy() - expected).max() < 1e-14


def test_masks() -> None:
    walks = chain()
    masks = torch.rand(9, N, generator=torch.Generator().manual_seed(0)) > 0.4
    masks[:, 0] = True
    expected = (masks.double() / masks.sum(-1, keepdim=True)) @ walks.to_dense()
    assert torch.allclose(walks.bounce(masks).values, expected, atol=1e-15)
    assert torch.allclose(walks.bounce(masks.tolist()).values, expected, atol=1e-15)


def test_how_dimensions_belong_to_each_other() -> None:
    """From the right: (heads, N) is one start, (k, 1, N) is k of all heads, (k, heads, N) is k that differ."""
    walks = chain((HEADS,))
    a = walks.to_dense()
    rows = torch.rand(5, HEADS, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = rows / rows.sum(-1, keepdim=True)
    own = torch.einsum("hn,hnm->hm", rows[0], a)
    assert torch.allclose(walks.bounce(rows[0]).values, own, atol=1e-15)
    same = torch.einsum("kn,hnm->khm", rows[:, 0], a)
    assert torch.allclose(walks.bounce(rows[:, :1]).values, same, atol=1e-15)
    assert torch.allclose(walks.bounce(list(rows[:, 0])).values, same, atol=1e-15)  # five rows for three heads
    every = torch.einsum("khn,hnm->khm", rows, a)
    assert torch.allclose(walks.bounce(rows).values, every, atol=1e-15)
    table = rows[:, None].expand(5, 2, HEADS, N)
    assert walks.bounce(table).values.shape == (5, 2, HEADS, N)
    assert torch.allclose(walks.bounce(table).values[:, 1], every, atol=1e-15)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("n", [3, "halflife"])
def test_the_way(n: Any, direction: Any) -> None:
    walks = chain((HEADS,))
    starts = [[0], [3, 4]]
    way = walks.bounce(starts, n, direction, path=True)
    assert way.values.shape[1:] == (2, HEADS, N)
    assert way.certificate is not None
    assert way.certificate.converged.shape == way.values.shape[:-1]
    assert torch.equal(way.values[-1], walks.bounce(starts, n, direction).values)
    assert torch.allclose(way.values[1, 1], walks.bounce([3, 4], 1, direction).values, atol=1e-15)


def test_every_walk_rests_after_its_own_half_life() -> None:
    g = torch.Generator().manual_seed(3)
    walks = AttentionChain((4 * torch.randn(HEADS, 24, 24, generator=g, dtype=torch.float64)).softmax(-1))
    starts = [[i] for i in range(24)]
    lives = walks.half_life(starts)
    assert lives.values.shape == lives.certificate.converged.shape == (24, HEADS)
    assert lives.curve.shape[:2] == (24, HEADS)
    assert len(lives.values.unique()) > 1
    found = walks.bounce(starts, "halflife").values
    for i in range(24):
        assert torch.equal(walks.half_life(i).values, lives.values[i])
        assert torch.allclose(found[i], walks.bounce(i, "halflife").values, atol=1e-14)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_bounds_hold(direction: Any) -> None:
    """Of a softmax in single precision, against the softmax in double."""
    g = torch.Generator().manual_seed(1)
    q, k = 3 * torch.randn(2, 2, 40, 8, generator=g)
    walks = AttentionChain.from_qk(q, k)
    weights = (q.double() @ k.double().mT / 8**0.5).softmax(-1)
    if direction == "backward":
        weights = weights.mT / weights.sum(-2)[..., None]
    rows = torch.rand(7, 1, 40, dtype=torch.float64, generator=g)
    found = walks.bounce(rows, 4, direction)
    expected = (rows / rows.sum(-1, keepdim=True)).movedim(1, 0) @ torch.linalg.matrix_power(weights, 4)
    assert found.certificate is not None
    assert found.certificate.error_bound is not None
    off = (found.values.movedim(1, 0) - expected).abs().sum(-1).mT
    assert bool((off <= found.certificate.error_bound).all())
    assert float(found.certificate.error_bound.max()) < 1e-5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_starts(data: st.DataObject) -> None:
    """k walks are distributions, whatever the scale of the weights, and each is what it is alone."""
    k, batch = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([(), (2,), (2, 3)]))
    weights = st.floats(0, 1e300, width=64)
    rows = np.array(data.draw(st.lists(st.lists(weights, min_size=N, max_size=N), min_size=k, max_size=k)))
    rows[rows.max(1) == 0] = 1.0
    walks = chain(batch, layout=None)
    n = data.draw(st.integers(0, 3))
    found = walks.bounce(torch.from_numpy(rows).reshape(k, *[1] * len(batch), N), n).values
    assert torch.allclose(found.sum(-1), torch.ones(()).double(), atol=1e-12)
    for row, values in zip(rows, found, strict=True):
        assert torch.allclose(values, walks.bounce(torch.from_numpy(row), n).values, atol=1e-14)


# ---- wrong


@pytest.mark.parametrize(
    ("starts", "batch", "message"),
    [
        (torch.ones(4, N), (HEADS,), r"\(4,\), expected ones that broadcast to \(3,\).* such as \(4, 1\)"),
        (np.ones((HEADS, N)), (2, HEADS + 1), r"such as \(3, 1, 1\)"),
        (torch.ones(2, 4, N), (HEADS,), r"leading dimensions \(2, 4\)"),
        ([[1.0] * N] * HEADS, (HEADS,), r"two ways.*\(3,\) for the first and \(3, 1\) for the second"),
        ([torch.ones(N)], (2, HEADS), r"two ways.*\(1,\) for the first and \(1, 1, 1\) for the second"),
        ([[True] * N] * HEADS, (HEADS,), "two ways"),
        (torch.tensor([[0], [3]]), (), "token indices in rows, which can be read in two ways"),
        (np.array([[0, 1], [3, 4]]), (), "a list of lists"),
        ([[0], 3], (), r"start 1 of 2, 3, is a single place and others are lists"),
        ([0, [1, 2]], (), r"start 0 of 2, 0, is a single place"),
        ([[0], []], (), r"no tokens given as start\[1\]"),
        ([[0], [9]], (), "token 9 of a chain"),
        ([[0], [0, 0, 1, 1, 0, 0]], (), r"start\[1\] = .* two ways"),
        ([[0], {1: -1}], (), r"weight -1 of 1 in start\[1\]"),
        ([[0.0] * N, [1.0] * N], (), r"all weights of start\[0\] are zero"),
        (torch.zeros(2, N), (), "all weights of start are zero"),
        ([[1.0, 2.0]], (), r"start\[0\] has shape \(2,\)"),
        (torch.zeros(0, N), (), "no tokens given as start"),
        ([], (), "no tokens given as start"),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:30],
)
def test_wrong(starts: Any, batch: tuple[int, ...], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        chain(batch, layout=None).bounce(starts)


def test_an_unknown_word_among_starts() -> None:
    with pytest.raises(NotFoundError, match="no word 'dog'"):
        chain(layout=TEXT).bounce([["cat"], ["dog"]])


def test_words() -> None:
    walks = chain(layout=TEXT)
    found = walks.bounce([["cat"], ["red", "mat"]]).values
    expected = torch.stack([walks.to_dense()[1], walks.to_dense()[4:].mean(0)])
    assert torch.allclose(found, expected, atol=1e-15)
    assert torch.equal(found, walks.bounce(np.array([["cat"], ["cat"]])).values[:1].expand(2, -1)) is False
    assert torch.allclose(walks.bounce(np.array([["cat"], ["mat"]])).values[0], walks.to_dense()[1])


def test_one_start_where_one_is_asked_for() -> None:
    """A jump goes to one distribution a chain; rows of several are no start of it."""
    for several in ([[0], [3]], torch.ones(2, N)):
        with pytest.raises(ChainError):
            chain(layout=None).tokenrank(personalization=several)  # type: ignore[arg-type]


def test_one_map_of_many() -> None:
    maps = chain().bounce([[0], [3, 4], [5]])
    assert "3 maps" in repr(maps)
    assert torch.equal(maps[1].values, maps.values[1])
    assert maps[1].grid().shape == (2, 2)
    assert isinstance(maps.values, Tensor)
