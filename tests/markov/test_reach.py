"""Which tokens can get to which, against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.markov.engine import constants
from tokenrank.markov.support.reachable import reaches
from tokenrank.operators import Dense, QueryKey, from_query_key, from_weights

from .strategies import chains


def expected(a: np.ndarray, targets: np.ndarray) -> np.ndarray:
    found = targets.copy()
    walk = nx.from_numpy_array(a > 0, create_using=nx.DiGraph)
    for j, t in zip(*targets.nonzero(), strict=True):
        found[list(nx.ancestors(walk, j)), t] = True
    return found


@settings(max_examples=150)
@given(chains(), st.integers(0, 2**20))
def test_against_networkx(a: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, through = rng.random((len(a), 3)) < 0.2, rng.random(len(a)) < 0.8
    operator = from_weights(torch.from_numpy(a))
    sets = torch.from_numpy(targets)
    assert reaches(operator, sets).numpy().tolist() == expected(a, targets).tolist()
    # tokens that must not be passed: the way on from them counts, ways over them do not
    found = reaches(operator, sets, torch.from_numpy(through)).numpy()
    for t in range(3):
        open_tokens = through | targets[:, t]
        inner = expected(a * open_tokens[:, None] * open_tokens, targets[:, t : t + 1])[:, 0]
        assert found[:, t].tolist() == (targets[:, t] | (a[:, inner] > 0).any(1)).tolist()


def test_paths_end_where_they_may_not_pass() -> None:
    line = from_weights(torch.diag(torch.ones(4), 1) + torch.diag(torch.tensor([0.0, 0, 0, 0, 1])))
    targets = (torch.arange(5) == 4)[:, None]
    through = torch.arange(5) != 2
    assert reaches(line, targets)[:, 0].tolist() == [True] * 5
    assert reaches(line, targets, through)[:, 0].tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("entries", [2**22, 1])
def test_batches_and_parts(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "GRAPH_ENTRIES", entries)
    rng = np.random.default_rng(0)
    a = rng.random((2, 3, 9, 9)) * (rng.random((2, 3, 9, 9)) < 0.15) + 0.1 * np.eye(9)
    a /= a.sum(-1, keepdims=True)
    targets = torch.from_numpy(rng.random((2, 3, 9, 2)) < 0.2)
    found = reaches(from_weights(torch.from_numpy(a)), targets)
    for i, j in np.ndindex(2, 3):
        alone = expected(a[i, j], targets[i, j].numpy())
        assert found[i, j].numpy().tolist() == alone.tolist()


def masked(mask: Tensor) -> QueryKey:
    q, k = torch.randn(2, 2, 3, 6, 4)
    operator = from_query_key(q, k, None, mask, False)
    assert isinstance(operator, QueryKey)
    return operator


def test_one_mask_for_all_heads_is_searched_once() -> None:
    mask = torch.eye(6, dtype=torch.bool) | torch.diag(torch.ones(5), 1).bool() | torch.eye(6).bool().roll(2, 1)
    operator = masked(mask)
    targets = torch.rand(2, 3, 6, 2) < 0.3
    found = reaches(operator, targets)
    for i, j in np.ndindex(2, 3):
        alone = expected(mask.numpy(), targets[i, j].numpy())
        assert found[i, j].numpy().tolist() == alone.tolist()


def test_a_mask_counts_and_underflow_does_not() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    q, k = torch.zeros(2, 1, 4, 2)
    q[..., 0], k[..., 1:, 0] = 1, 1
    k[..., 0, 0] = -1e4  # e^-7000 is no number of float64, and yet the walk can go there
    operator = from_query_key(q, k, None, mask, False)
    assert operator.rows(1, 2, torch.float64)[..., 0].item() == 0
    first, last = torch.arange(4)[:, None] == 0, torch.arange(4)[:, None] == 3
    assert reaches(operator, first).all()
    assert reaches(operator, last)[0, :, 0].tolist() == [False, False, False, True]


def test_without_masks_everything_is_reached_at_once() -> None:
    operator = from_query_key(*torch.randn(2, 2, 3, 100_000, 1), None, None, False)
    targets = torch.zeros(100_000, 2, dtype=torch.bool)
    targets[5, 0] = True  # the second set is empty
    found = reaches(operator, targets)
    assert found[..., 0].all()
    assert not found[..., 1].any()


def test_no_token_reaches_an_empty_set() -> None:
    assert not reaches(Dense(torch.eye(3)), torch.zeros(3, 1, dtype=torch.bool)).any()
