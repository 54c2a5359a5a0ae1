"""Explorers of real pictures and texts as files, made once for all tests that open them."""

from __future__ import annotations

from pathlib import Path

import pytest

import tokenrank as tr
from tests.browser import browser, chromium

__all__ = ["browser", "chromium"]

TEXT = "The old bridge was closed because the engineers found deep cracks in it."


@pytest.fixture(scope="session")
def picture_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph in 8 × 8 patches, two of twelve layers in the page."""
    path = tmp_path_factory.mktemp("explorer") / "rocket.html"
    tr.explore(str(tr.samples.path("rocket")), size=96, layers=[8, 11]).save(path)
    return path


@pytest.fixture(scope="session")
def text_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence, all six layers in the page."""
    path = tmp_path_factory.mktemp("explorer") / "bridge.html"
    tr.explore(TEXT).save(path)
    return path
