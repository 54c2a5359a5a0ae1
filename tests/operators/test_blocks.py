"""Windows put together: what is refused, what it costs, and what the chain on all tokens is like."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.markov.engine import constants
from tokenrank.operators import Blocks, Dense, Operator, from_query_key

from .oracles import attention
from .test_memory import largest

WINDOWS = torch.arange(24).view(2, 3, 2, 2).transpose(1, 2).reshape(4, 6)  # 4 × 6 tokens, windows of 3 × 2


def blocks(index: Tensor = WINDOWS, batch: tuple[int, ...] = (2,), heads: int = 2, size: float = 1.0) -> Blocks:
    windows, n = index.shape
    q, k = size * torch.randn(2, *batch, windows, heads, n, 4)
    return Blocks(from_query_key(q, k, None, None, False), index)


SHIFTED = torch.arange(24).view(4, 6).roll((-1, -1), (0, 1)).flatten()[WINDOWS]


@pytest.mark.parametrize(
    ("inner", "index", "message"),
    [
        ((3, 4, 4), torch.arange(12).view(3, 4), r"windows have shape \(3, 4, 4\), expected \(\*batch, W, H, n, n\)"),
        ((3, 1, 4, 4), torch.arange(12).view(4, 3), r"index has shape \(4, 3\), expected \(W, n\) = \(3, 4\)"),
        ((3, 1, 4, 4), torch.arange(12.0).view(3, 4), r"index is torch\.float32, expected torch\.int64.*\.long\(\)"),
        ((3, 1, 4, 4), torch.arange(12).view(3, 4) // 2, r"index does not name each of 0 … 11 once"),
        ((3, 1, 4, 4), torch.arange(1, 13).view(3, 4), r"index does not name each of 0 … 11 once"),
    ],
    ids=["no heads", "transposed", "floating", "twice", "from one"],
)
def test_what_is_no_set_of_windows_is_refused(inner: tuple[int, ...], index: Tensor, message: str) -> None:
    with pytest.raises(ChainError, match=message):
        Blocks(Dense(torch.rand(inner).softmax(-1)), index)


def test_an_apply_creates_nothing_of_the_size_of_all_tokens_squared() -> None:
    index = torch.randperm(64 * 64).view(64, 64)
    a = blocks(index, (), 1)
    x = torch.randn(1, 4096, 3)

    def apply() -> None:
        a.matmul(x), a.rmatmul(x.double()), a.diagonal(), a.column_sums(), a.row_entropies(), a.rows(5, 9)
        a.index(0).columns(0, 3)

    assert largest(apply) <= 4096 * 4096 / 32


def test_rows_build_only_their_own_windows() -> None:
    a = blocks(torch.arange(4096).view(64, 64), (), 1)
    assert largest(lambda: a.rows(0, 2)) <= 2 * 4096


def test_one_window_in_order_is_the_chain_itself() -> None:
    q, k = torch.randn(2, 2, 1, 3, 6, 4)
    a = Blocks(from_query_key(q, k, None, None, False), torch.arange(6)[None])
    assert a.support().untyped_storage().nbytes() == 1  # everywhere
    torch.testing.assert_close(a.to_dense(torch.float64), attention(q, k)[:, 0], rtol=0, atol=1e-12)


def test_a_support_without_masks_is_stored_once_for_all_heads() -> None:
    assert blocks().support().shape == (24, 24)


def test_indexing_takes_whole_pictures_and_heads() -> None:
    a = blocks(batch=(3,))
    dense = a.to_dense()
    for index in ((1,), (slice(None), 0), (2, 1), (torch.tensor([2, 0]), torch.tensor([1, 1])), (None, 1)):
        part: Operator = a.index(*index)
        torch.testing.assert_close(part.to_dense(), dense[index], rtol=0, atol=1e-6)
    assert a.index(slice(None)).inner is a.inner  # nothing is copied where all is taken


def test_every_window_is_a_closed_class() -> None:
    found = tr.AttentionChain.from_operator(blocks()).classes()
    assert torch.equal(found.count, torch.full((2, 2), 4))
    assert bool(found.recurrent.all())
    for labels in found.values.reshape(-1, 24):
        members = [sorted((labels == c).nonzero()[:, 0].tolist()) for c in range(4)]
        assert sorted(members) == sorted(sorted(w) for w in WINDOWS.tolist())


@pytest.mark.parametrize("room", [0, 2**28], ids=["matrix-free", "dense"])
@pytest.mark.parametrize("alpha", [0.5, 0.99])
def test_tokenrank_of_a_reducible_chain_converges(alpha: float, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DENSE_BYTES", room)
    operator = blocks(size=2.0)
    rank = tr.AttentionChain.from_operator(operator).tokenrank(alpha=alpha, tol=1e-9)
    assert bool(rank.certificate.converged.all())
    a = operator.to_dense(torch.float64)
    jump = torch.full((2, 2, 24, 1), (1 - alpha) / 24, dtype=torch.float64)
    expected = torch.linalg.solve(torch.eye(24) - alpha * a.mT, jump)[..., 0]
    torch.testing.assert_close(rank.values.double(), expected, rtol=0, atol=1e-8)
    # the jump gives every window its share of tokens, and no step leaves a window
    shares = rank.values.double()[..., WINDOWS].sum(-1)
    torch.testing.assert_close(shares, torch.full_like(shares, 0.25), rtol=0, atol=1e-8)


def test_a_shifted_layer_joins_the_windows_of_the_one_before() -> None:
    plain = tr.AttentionChain.from_operator(blocks())
    moved = tr.AttentionChain.from_operator(blocks(SHIFTED))
    joined = tr.compose([plain, moved])
    assert not plain.classes().irreducible.any()
    assert not moved.classes().irreducible.any()
    assert bool(joined.classes().irreducible.all())
    lazy = [0.5 * torch.eye(24) + 0.5 * c.operator.to_dense(torch.float64) for c in (moved, plain)]
    torch.testing.assert_close(joined.operator.to_dense(torch.float64), lazy[0] @ lazy[1], rtol=0, atol=1e-12)


def test_what_it_prints() -> None:
    chain = tr.AttentionChain.from_operator(blocks())
    assert re.fullmatch(r"AttentionChain\(shape=\(2, 2, 24, 24\), Blocks\)", repr(chain))
