"""What the page states of its own exactness holds, found by opening it and computing the same in NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank.cli.explore import _upwards

from .driven import Driven

ALPHA = 0.99


def slow() -> np.ndarray:
    """Two groups of tokens between which the walk hardly goes, (1, 80, 80): its limit is hard to find."""
    generator = np.random.default_rng(1)
    logits = 4 * generator.standard_normal((80, 80))
    side = np.repeat([1.0, -1.0], [30, 50])
    weights = np.exp(logits + 10 * np.outer(side, side))
    return weights[None] / weights.sum(-1)[None, :, None]


def tokenrank(a: np.ndarray, alpha: float) -> np.ndarray:
    n = len(a)
    found: np.ndarray = np.linalg.solve(np.eye(n) - alpha * a.T, np.full(n, (1 - alpha) / n))
    return found


def shown_at(browser: Any, path: Path, weights: np.ndarray, alpha: float) -> Driven:
    layout = tr.TokenLayout.text([f"t{i}" for i in range(weights.shape[-1])])
    tr.explore(tr.AttentionChain(torch.from_numpy(weights), layout)).save(path)
    driven = Driven(browser, path, f"bounces=2&alpha={alpha}")  # ready when the limit is there
    driven.page.evaluate("link => { location.hash = link }", f"bounces=inf&alpha={alpha}")
    driven.page.get_by_text("∞ bounces TokenRank").wait_for()
    return driven


@pytest.mark.browser
def test_the_stated_error_of_tokenrank_holds(browser: Any, tmp_path: Path) -> None:
    """Also where nothing is lost in storing, so that the page's own arithmetic is all there is."""
    whole = np.eye(8)[[1, 2, 3, 4, 5, 6, 7, 0]][None]
    for weights in (whole, slow()):
        shown = shown_at(browser, tmp_path / "page.html", weights, ALPHA)
        said = re.search(r"TokenRank at α = 0\.99 by (\S+) in sum", shown.page.inner_text(".foot"))
        assert said is not None
        off = np.abs(shown.numbers() - tokenrank(weights[0], ALPHA)).sum()
        assert 0 < float(said[1]) < 1e-3
        assert off <= float(said[1])


@pytest.mark.browser
def test_a_limit_that_was_not_reached_says_how_far_it_may_be_off(browser: Any, tmp_path: Path) -> None:
    weights, alpha = slow(), 0.999
    shown = shown_at(browser, tmp_path / "page.html", weights, alpha)
    said = re.search(
        r"not converged: residual (\S+), so that it may be off by (\S+) in sum", shown.page.inner_text(".foot")
    )
    off = np.abs(shown.numbers() - tokenrank(weights[0], alpha)).sum()
    assert said is not None, f"it is off by {off}"
    assert float(said[1]) < off <= float(said[2])


@pytest.mark.browser
def test_as_many_ones_in_the_spectrum_as_classes_that_are_never_left(browser: Any, tmp_path: Path) -> None:
    """Python has eight leading eigenvalues, here all of them one, of ten that are."""
    chain = tr.AttentionChain(torch.eye(10)[None], tr.TokenLayout.text(list("abcdefghij")))
    tr.explore(chain).save(tmp_path / "page.html")
    shown = Driven(browser, tmp_path / "page.html", "tab=chain")
    assert shown.page.locator(".plots text", has_text="1 (10 ×)").count() == 1


@pytest.mark.browser
def test_frames_without_a_waveform_are_drawn(browser: Any, tmp_path: Path) -> None:
    """1,500 frames in a row are no picture of no height, in which the page failed."""
    n = 1500
    rows = torch.softmax(torch.randn(1, n, n, generator=torch.Generator().manual_seed(0)), -1)
    layout = tr.TokenLayout({"image": n}, {"image": (1, n)})
    tr.explore(tr.AttentionChain(rows, layout), small=True).save(tmp_path / "page.html")
    shown = Driven(browser, tmp_path / "page.html")
    for name in ("Groups", "Walk"):
        shown.page.get_by_role("tab", name=name, exact=True).click()
    assert shown.page.get_by_text("This part of the page failed").count() == 0
    box = shown.page.locator("canvas[tabindex]").first.bounding_box()
    assert box is not None
    assert box["height"] > 50
    shown.shown.check()


def test_a_bound_is_rounded_up() -> None:
    assert [_upwards(x) for x in (0.0, 2e-7, 1.07e-5, 9.6e-5)] == ["0e+00", "2e-07", "2e-05", "1e-04"]
