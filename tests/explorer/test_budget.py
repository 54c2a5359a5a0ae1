"""What fits into a page: sizes known before anything is computed, and errors with numbers and cures."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import tokenrank as tr
from tokenrank.explorer import budget, layer
from tokenrank.explorer.file import html
from tokenrank.explorer.index import build
from tokenrank.explorer.sheet import Draft, DraftLayer


def draft(layers: int, heads: int, tokens: int, size: int, weights: bool = False, name: str = "x") -> Draft:
    """A sheet of random attention; one tensor serves all layers."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(heads, tokens, size, generator=generator) for _ in range(2))
    layout = tr.TokenLayout.text(["a"] * tokens)
    chain = tr.AttentionChain.from_qk(q, k, layout=layout)
    if weights:
        chain = tr.AttentionChain(chain.to_dense(), layout)
    return Draft(name, "text", tokens, layout, [DraftLayer(f"layer.{i}", i, 0, chain) for i in range(layers)])


def stored_layers(index: dict[str, Any], sheet: int = 0) -> list[int]:
    return [of["number"] for of in index["sheets"][sheet]["layers"] if of["stored"]]


def page_bytes(index: dict[str, Any], parts: list[bytes]) -> int:
    return len(html(index, parts).encode())


def test_a_page_without_anything_in_it_is_no_larger_than_said():
    nothing = {"title": "", "generator": "", "sheets": []}
    assert len(html(nothing, []).encode()) <= budget.CODE
    assert len(html(nothing, [b"\x00" * 1000]).encode()) - len(html(nothing, []).encode()) <= budget.html_bytes(1000)


def test_a_layer_of_1024_tokens_12_heads_64_channels():
    form = budget.form_of(draft(1, 12, 1024, 64).layers[0], None, False)
    assert (form.kind, form.type) == ("qk", "int16")
    assert budget.html_bytes(form.nbytes) < 4.35e6
    assert budget.html_bytes(budget.form_of(draft(1, 12, 1024, 64).layers[0], None, True).nbytes) < 2.3e6


@pytest.mark.parametrize(
    ("count", "kept"), [(12, range(12)), (3, [3, 7, 11]), (2, [5, 11]), (1, [11]), (5, [2, 4, 7, 9, 11])]
)
def test_default_layers_are_evenly_spaced_with_the_last(count, kept):
    given = draft(12, 2, 20, 8)
    one = budget.html_bytes(budget.form_of(given.layers[0], None, False).nbytes)
    (chosen,) = budget.chosen_layers([given], [None], None, False, count * one + 10, 0)
    assert sorted(chosen) == list(kept)


@pytest.mark.parametrize(("heads", "tokens", "size", "layers"), [(2, 20, 8, 12), (12, 400, 32, 12), (3, 700, 64, 24)])
@pytest.mark.parametrize("limit", [500_000, 2_000_000, 12_000_000])
def test_a_page_is_never_larger_than_its_limit(heads, tokens, size, layers, limit, monkeypatch):
    quick(monkeypatch)
    try:
        index, parts = build(draft(layers, heads, tokens, size), limit=limit)
    except tr.errors.InputError:
        assert budget.html_bytes(heads * tokens * (size * 4 + 8)) + 400_000 > limit
        return
    assert page_bytes(index, parts) <= limit
    kept = len(stored_layers(index))
    if kept < layers:
        largest = budget.html_bytes(len(parts[-1]))
        assert page_bytes(index, parts) + largest * 1.2 + 100_000 + 20 * tokens * layers > limit  # no room was wasted


def quick(monkeypatch) -> None:
    """Numbers of Python are tested elsewhere; here their longest form."""

    def numbers(mixed: tr.AttentionChain, weights: list[float]) -> dict[str, Any]:
        n = mixed.num_tokens
        value = {
            "real": -0.123456789012345,
            "imaginary": -0.123456789012345,
            "certificate": "uncertain",
            "residual": 1e-9,
        }
        return {
            "lambda2": 0.123456789012345, "certificate": "uncertain", "unique": False, "spectrum": [value] * 9,
            "groups": {"members": [list(range(n))], "weights": [0.123456789012345] * 8, "stay": [0.123456789012345] * 8,
                       "coarse": [[0.123456789012345] * 8] * 8, "certificate": "uncertain", "note": "x" * 300},
            "classes": {"recurrent": [list(range(n))], "transient": [], "absorbing": [], "note": "x" * 200},
            "mixture": {"weights": weights},
        }  # fmt: skip

    def heads(chain: tr.AttentionChain, **more: Any) -> list[dict[str, Any]]:
        one = {"lambda2": 0.12345678901234, "certificate": "uncertain", "bound": 1.23456789012345e-12,
               "entropy": 10.1234567890123, "sinks": [1000, 2000, 3000], "held": 0.123456789012345}  # fmt: skip
        return [dict(one) for _ in range(chain.batch[-1])]

    def ranks(chain: tr.AttentionChain, alpha: float) -> torch.Tensor:
        return torch.full((chain.batch[-1], chain.num_tokens), 1 / chain.num_tokens, dtype=torch.float64)

    class Moduli:
        def __init__(self, count: int) -> None:
            self.values = torch.full((count,), 0.5, dtype=torch.float64)

    monkeypatch.setattr(layer, "chain_numbers", numbers)
    monkeypatch.setattr(layer, "head_numbers", heads)
    monkeypatch.setattr(layer, "head_ranks", ranks)
    monkeypatch.setattr(layer, "measured", lambda *of: layer.Errors(1e-5, 1.23e-5, 1.23e-5))
    monkeypatch.setattr(tr.AttentionChain, "lambda2", lambda chain, proved: Moduli(chain.batch[-1]))


def test_what_was_asked_for_and_does_not_fit_is_an_error_with_numbers_and_cures(monkeypatch):
    monkeypatch.setattr(layer, "write_layer", None)  # nothing is computed before
    given = draft(6, 12, 300, 64)
    with pytest.raises(tr.errors.InputError) as caught:
        build(given, layers="all", limit=2_000_000)
    words = str(caught.value)
    assert "6 layers would make a page of" in words
    assert "at most 2.0 MB" in words
    for cure in ("--layers", "--heads", "--small", "limit="):
        assert cure in words
    needed = int(words.split("limit=")[1].split(",")[0].replace("_", ""))
    monkeypatch.undo()
    quick(monkeypatch)
    index, parts = build(given, layers="all", limit=needed)
    assert page_bytes(index, parts) <= needed
    assert len(stored_layers(index)) == 6


def test_a_single_layer_that_cannot_fit_is_an_error():
    with pytest.raises(tr.errors.InputError, match=r"1 layer would make .*stored as weights since only its weights"):
        build(draft(2, 4, 900, 8, weights=True), limit=5_000_000)
    with pytest.raises(tr.errors.InputError, match="expected at most 6,000"):
        build(draft(1, 1, 6001, 1))


@pytest.mark.parametrize(
    ("heads", "tokens", "weights", "limit"),
    [(12, 1400, True, 12_000_000), (2, 700, True, 2_000_000), (2, 700, True, 1_000_000), (12, 300, False, 900_000)],
)
def test_every_cure_works_alone(monkeypatch, heads, tokens, weights, limit):
    """Followed to the letter: so many heads, eight bits, both, or the larger page as both hosts take it."""
    quick(monkeypatch)
    given = draft(1, heads, tokens, 64, weights=weights)
    with pytest.raises(tr.errors.InputError) as caught:
        build(given, limit=limit)
    *cures, larger = str(caught.value).split("; take ")[1].split("), ")
    for cure in cures:
        most = re.search(r"at most (\d+) head", cure)
        chosen = list(range(int(most[1]))) if most else None
        index, parts = build(given, heads=chosen, small="small=True" in cure, limit=limit)
        assert page_bytes(index, parts) <= limit, cure
    for found in (re.search(r"limit=([\d_]+)", larger), re.search(r"--limit (\d+)\)", larger)):
        assert found is not None, larger
        number = int(found[1].replace("_", ""))
        build(given, limit=number if number > 1000 else number * 1_000_000)


@pytest.mark.filterwarnings("error")
def test_layers_of_several_sheets_share_the_page(monkeypatch):
    quick(monkeypatch)
    large, small = draft(4, 4, 300, 32), draft(4, 4, 30, 32)
    limit = 1_000_000
    index, parts = build([large, small], limit=limit)
    assert page_bytes(index, parts) <= limit
    assert stored_layers(index, 1) == [0, 1, 2, 3]
    assert stored_layers(index, 0)[-1] == 3
    assert len(stored_layers(index, 0)) < 4


def test_a_sheet_without_a_layer_that_fits_is_left_out_with_a_warning(monkeypatch):
    quick(monkeypatch)
    given = [draft(2, 4, 800, 8, weights=True, name="large"), draft(2, 4, 30, 8, name="small")]
    with pytest.warns(tr.errors.TokenRankWarning, match="'large' is left out: none of its 2 layers"):
        index, _ = build(given, limit=2_000_000)
    assert [sheet["name"] for sheet in index["sheets"]] == ["small"]


@pytest.mark.parametrize("heads", [-5, [0, 0], [], [True], "x", 1.5])
def test_heads_that_are_none_are_refused(heads):
    with pytest.raises((tr.errors.InputError, tr.errors.NotFoundError)):
        build(draft(1, 4, 6, 4), heads=heads)


def test_heads_and_small_make_a_page_smaller(monkeypatch):
    quick(monkeypatch)
    given = draft(2, 8, 200, 16)
    sizes = [page_bytes(*build(given, layers="all", **more)) for more in ({}, {"heads": [1, -1]}, {"small": True})]
    assert sizes[1] < sizes[0]
    assert sizes[2] < sizes[0]
