"""Groups and classes in the words of the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank.explorer import groups as module
from tokenrank.explorer.groups import class_words, groups
from tokenrank.markov import metastable, spectrum

PAIRS = [[0.9, 0.1, 0, 0], [0.1, 0.85, 0.05, 0], [0, 0.05, 0.85, 0.1], [0, 0, 0.1, 0.9]]


def of(rows):
    chain = tr.AttentionChain(rows)
    return groups(chain, spectrum(chain.operator, 8), float(chain.lambda2().values))


def test_two_pairs_are_two_groups():
    found = of(PAIRS)
    assert found["members"] == [[0, 1], [2, 3]]
    assert found["weights"] == pytest.approx([0.5, 0.5])
    assert all(stay > 0.9 for stay in found["stay"])
    assert np.allclose(np.sum(found["coarse"], axis=1), 1)
    assert (found["certificate"], found["note"]) == ("checked", "")


def test_a_chain_that_forgets_is_one_group_and_says_why():
    found = of(np.full((5, 5), 0.2))
    assert found["members"] == [[0, 1, 2, 3, 4]]
    assert found["note"] == "No groups: |λ2| is 0.00, so that less than half of any difference outlasts a bounce."


def test_a_slow_chain_without_a_crisp_split_says_so():
    n = 12
    ring = 0.5 * np.eye(n) + 0.5 * np.roll(np.eye(n), 1, axis=1)
    found = of(ring)
    assert len(found["members"]) == 1
    assert found["note"].startswith("No groups: no split into 2 to 8 is crisp")


def test_no_gap_is_uncertain():
    found = of(np.eye(20))
    assert found["certificate"] == "uncertain"
    assert found["note"] == "Uncertain: no gap in the spectrum sets these groups apart; others fit as well."


@pytest.mark.parametrize(("settled", "words"), [(True, "is too small for what is known"), (False, "did not settle")])
def test_a_residual_as_large_as_the_gap_is_uncertain(monkeypatch, settled, words):
    def doubtful(operator, k, largest):
        found = metastable(operator, k, largest)
        yes = torch.tensor(True)
        doubt = replace(found.certificate, uncertain=yes, converged=yes if settled else ~yes)
        return replace(found, gap=torch.tensor(1e-6), certificate=doubt)

    monkeypatch.setattr(module, "metastable", doubtful)
    found = of(PAIRS)
    assert found["certificate"] == "uncertain"
    assert words in found["note"]


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 9])
def test_groups_are_those_of_all_numbers_tried(blocks):
    """Numbers of groups that are not tried, since they do not last, are those that the rule of choice refuses."""
    torch.manual_seed(blocks)
    logits = torch.block_diag(*[torch.randn(7, 7) + 4 for _ in range(blocks)])
    rows = (logits + torch.randn_like(logits)).softmax(-1)
    every = metastable(tr.AttentionChain(rows).operator, None, 8)
    found = of(rows)
    assert len(found["members"]) == int(every.count)
    assert [(every.labels == group).nonzero()[:, 0].tolist() for group in range(int(every.count))] == found["members"]
    assert found["weights"] == pytest.approx([len(members) / len(rows) for members in found["members"]])


def test_numbers_of_groups_are_those_of_a_walk_from_their_tokens():
    torch.manual_seed(3)
    logits = torch.block_diag(*[torch.randn(size, size) + 3 for size in (4, 7, 9)])
    chain = tr.AttentionChain((logits + torch.randn_like(logits)).softmax(-1).double())
    found = groups(chain, spectrum(chain.operator, 8), float(chain.lambda2().values))
    assert len(found["members"]) > 1
    for group, members in enumerate(found["members"]):
        after = chain.bounce(members, n=1).values
        walked = [float(after[others].sum()) for others in found["members"]]
        assert found["coarse"][group] == pytest.approx(walked, abs=1e-6)
        assert found["stay"][group] == pytest.approx(walked[group], abs=1e-6)


def test_every_token_is_in_one_group():
    torch.manual_seed(1)
    logits = torch.block_diag(*[torch.randn(9, 9) + 5 for _ in range(3)])
    found = of(logits.softmax(-1))
    assert sorted(token for members in found["members"] for token in members) == list(range(27))
    assert len(found["members"]) == len(found["weights"]) == len(found["stay"]) == len(found["coarse"]) == 3


def test_many_tokens_are_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr(module, "MOST_TOKENS", 3)
    found = of(PAIRS)
    assert found["members"] == []
    assert found["note"] == "Left out: 4 tokens; groups are looked for up to 3."


@pytest.mark.parametrize(
    ("rows", "recurrent", "transient", "absorbing", "note"),
    [
        (PAIRS, [[0, 1, 2, 3]], [], [], "All 4 tokens are one class: from every token the walk can reach every other."),
        (
            [[0.0, 1.0], [1.0, 0.0]],
            [[0, 1]],
            [],
            [],
            "All 2 tokens are one class: from every token the walk can reach every other, in turns of period 2.",
        ),
        (
            [[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]],
            [[0]],
            [1, 2],
            [0],
            "The first token absorbs: no token sees a later one, so that every walk ends there.",
        ),
        ([[1.0]], [[0]], [], [0], "There is one token, and the walk stays there."),
        ([[0.5, 0.5], [0, 1]], [[1]], [0], [1], "Token 1 absorbs: it is never left, and every walk ends there."),
        (
            [[1, 0, 0], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]],
            [[0]],
            [1, 2],
            [0],
            "Token 0 absorbs: it is never left, and every walk ends there.",
        ),
        (
            [[1, 0, 0], [0.2, 0.3, 0.5], [0, 0, 1]],
            [[0], [2]],
            [1],
            [0, 2],
            "2 classes that are never left, 2 of a single absorbing token: where the walk ends depends on where it "
            "begins. 1 transient token is left for good.",
        ),
        (
            [[0.5, 0.5, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5]],
            [[0, 1]],
            [2],
            [],
            "One class of 2 tokens is never left; 1 transient token is left for good.",
        ),
    ],
)  # fmt: skip
def test_classes_in_words(rows, recurrent, transient, absorbing, note):
    chain = tr.AttentionChain(rows)
    told = class_words(chain.classes(), chain.is_causal)
    assert told == {"recurrent": recurrent, "transient": transient, "absorbing": absorbing, "note": note}
