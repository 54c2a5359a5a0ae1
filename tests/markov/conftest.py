"""What the tests of the algorithms share."""

from __future__ import annotations

import pytest

from tokenrank.markov.engine import constants


@pytest.fixture
def matrix_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """No head fits: the operator is never materialised, as for very many tokens."""
    monkeypatch.setattr(constants, "DENSE_BYTES", 0)
