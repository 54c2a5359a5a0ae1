"""Layers in a row, and cross-attention as a chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tokenrank as tr
from tests.operators import oracles
from tokenrank import AttentionChain, TokenLayout
from tokenrank.errors import ChainError

N, M = 6, 3
VIT = TokenLayout({"image": 6}, {"image": (2, 3)})
WORDS = ["a", "black", "cat"]


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).mul(2).softmax(-1)


def rollout(layers: list[Tensor]) -> Tensor:
    """Abnar and Zuidema's recipe as it is usually written: average, add identity, normalise rows, multiply."""
    joint = torch.eye(layers[0].shape[-1], dtype=torch.float64)
    for a in layers:
        mixed = a.mean(-3) + torch.eye(a.shape[-1], dtype=torch.float64)
        joint = (mixed / mixed.sum(-1, keepdim=True)) @ joint
    return joint


def test_rollout_is_a_special_case() -> None:
    layers = [weights(4, N, N) for _ in range(5)]
    chain = tr.compose([AttentionChain(a, VIT).aggregate("uniform") for a in layers])
    assert (chain.to_dense() - rollout(layers)).abs().max() < 1e-12
    assert (chain.bounce(0).values - rollout(layers)[0]).abs().max() < 1e-12
    assert chain.layout is VIT


def test_without_residual_layers_multiply_as_they_are() -> None:
    layers = [weights(2, N, N) for _ in range(3)]
    chain = tr.compose([AttentionChain(a) for a in layers], residual=0)
    assert (chain.to_dense() - layers[2] @ layers[1] @ layers[0]).abs().max() < 1e-12


def test_all_residual_stays_where_it_is() -> None:
    chain = tr.compose([AttentionChain(weights(N, N)) for _ in range(3)], residual=1)
    assert torch.equal(chain.to_dense(), torch.eye(N, dtype=torch.float64))


def test_causal_layers_stay_causal_and_compose_without_materialising() -> None:
    q, k = torch.randn(2, 4, 2, 50, 8, dtype=torch.float64)
    chain = tr.compose([AttentionChain.from_qk(q[i], k[i], is_causal=True) for i in range(4)])
    assert chain.is_causal
    expected = torch.eye(50, dtype=torch.float64)
    for i in range(4):
        expected = oracles.lazy(oracles.attention(q[i], k[i], is_causal=True), 0.5) @ expected
    assert (chain.to_dense() - expected).abs().max() < 1e-12
    assert chain.tokenrank().certificate.converged.all()
    moduli = expected.diagonal(dim1=-2, dim2=-1).sort(-1, descending=True).values
    assert (chain.lambda2().values - moduli[:, 1]).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("chains", "options", "message"),
    [
        ([], {}, "no chains given"),
        ([(2, N, N), (3, N, N)], {}, "layer 1 has shape"),
        ([(N, N)], {"residual": 1.5}, "residual = 1.5"),
        ([(N, N)], {"residual": float("nan")}, "residual = nan"),
    ],
)
def test_compose_refuses(chains: list[tuple[int, ...]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        tr.compose([AttentionChain(weights(*shape)) for shape in chains], **options)


# ---- cross-attention


def test_absorbed_in_words() -> None:
    """Absorption is (I − (1 − p) A)⁻¹ p C."""
    a, c = weights(2, N, N), weights(2, N, M)
    joint = tr.bipartite(AttentionChain(a, VIT), c, step=0.2, text=WORDS)
    assert joint.shape == (2, N + M, N + M)
    assert joint.layout is not None
    assert dict(joint.layout.spans) == {"image": N, "text": M}
    assert joint.layout.grids == {"image": (2, 3)}
    assert joint.layout.tokens == ("", "", "", "", "", "", *WORDS)
    assert (joint.to_dense() - oracles.bipartite(a, c, 0.2)).abs().max() < 1e-12
    segments = torch.linalg.solve(torch.eye(N, dtype=torch.float64) - 0.8 * a, 0.2 * c)
    walked = joint.bounce("image", 400).values[..., N:]
    assert (walked - segments.mean(-2)).abs().max() < 1e-12


def test_step_of_one_is_cross_attention_itself() -> None:
    a, c = weights(N, N), weights(N, M)
    joint = tr.bipartite(AttentionChain(a), c, step=1)
    assert (joint.bounce(2, 1).values[N:] - c[2]).abs().max() < 1e-12


def test_words_that_nobody_attends_to_cannot_be_reached() -> None:
    c = weights(N, M)
    c[:, 1] = 0
    c = c / c.sum(-1, keepdim=True)
    joint = tr.bipartite(AttentionChain(weights(N, N)), c, text=WORDS)
    found = joint.classes()
    assert int(found.recurrent_count) == M
    assert joint.bounce("image", 100).values[N + 1] == 0


def test_relay_there_and_back() -> None:
    a, c = weights(2, N, N), weights(2, N, M)
    chain = tr.bipartite(AttentionChain(a, VIT), c, how="relay")
    back = (c / c.sum(-2, keepdim=True)).mT
    assert (chain.to_dense() - c @ back).abs().max() < 1e-12
    assert chain.layout is VIT
    # the reversed step keeps the even distribution
    assert (chain.tokenrank(alpha=1).values - 1 / N).abs().max() < 1e-6
    given = weights(2, M, N)
    chain = tr.bipartite(AttentionChain(a), c, how="relay", back=given)
    assert (chain.to_dense() - c @ given).abs().max() < 1e-12
    assert chain.lambda2().values.max() < 1


def test_relay_names_the_words_that_it_cannot_come_back_from() -> None:
    c = weights(N, M)
    c[:, 1] = 0
    c = c / c.sum(-1, keepdim=True)
    with pytest.raises(ChainError, match=r"text token 1 \('black'\) is attended to by no image token"):
        tr.bipartite(AttentionChain(weights(N, N)), c, how="relay", text=WORDS)


def test_one_set_of_weights_for_all_heads_and_arrays() -> None:
    c = weights(N, M).float().numpy()
    joint = tr.bipartite(AttentionChain(weights(4, N, N)), c)
    assert joint.shape == (4, N + M, N + M)
    assert isinstance(c, np.ndarray)
    assert (joint.to_dense()[3, :N, N:] - 0.1 * torch.from_numpy(c)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("cross", "options", "message"),
    [
        ((M, N), {}, "one row a token of the chain"),
        ((5, N, M), {}, "leading dimensions"),
        ((N, M), {"step": 0}, "step = 0"),
        ((N, M), {"step": 1.1}, "step = 1.1"),
        ((N, M), {"how": "jump"}, "how = 'jump'"),
        ((N, M), {"text": ["a"]}, "1 text tokens for 3 columns"),
        ((N, M), {"back": torch.ones(M, N) / N}, "back is for how='relay'"),
        ((N, M), {"how": "relay", "back": torch.ones(N, M) / M}, "back has shape"),
    ],
)
def test_bipartite_refuses(cross: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainError, match=message):
        tr.bipartite(AttentionChain(weights(2, N, N)), weights(*cross), **options)


def test_bipartite_checks_the_weights() -> None:
    chain = AttentionChain(weights(N, N))
    with pytest.raises(ChainError, match="sums to"):
        tr.bipartite(chain, torch.ones(N, M))
    bad = weights(N, M)
    bad[2, 1] = float("nan")
    with pytest.raises(ChainError, match=r"weight \[2, 1\] is nan"):
        tr.bipartite(chain, bad)
    with pytest.raises(ChainError, match="expected \\(…, rows, columns\\)"):
        tr.bipartite(chain, torch.ones(M))
    with pytest.raises(ChainError, match="has a span 'text' already"):
        tr.bipartite(AttentionChain(weights(3, 3), TokenLayout.text(WORDS)), weights(3, M))


def test_text_tokens_that_no_patch_attends_to_can_be_dropped():
    """Padding that is masked out in cross-attention, as in PixArt: columns of zeros."""
    cross = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    joint = tr.bipartite(tr.AttentionChain(torch.full((3, 3), 1 / 3, dtype=torch.float64)), cross, 0.2)
    for keep in ([0, 1, 2, 3, 4], [0, 1, 2, 3, 5]):
        part = joint.to_dense()[keep][:, keep]
        torch.testing.assert_close(joint.restrict(keep).to_dense(), part / part.sum(-1, keepdim=True))
