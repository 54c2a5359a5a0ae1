"""What the tests of the algorithms share."""

from __future__ import annotations

import pytest

from tokenrank.markov.engine import constants


@pytest.fixture
def matrix_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """No head fits: the operator is never materialised, as for very many tokens."""
    monkeypatch.setattr(constants, "DENSE_BYTES", 0)


WAYS = ("elimination", "lu", "gmres")


def take(way: str, patch: pytest.MonkeyPatch) -> None:
    """Transient tokens by elimination; by LU, and elimination where that proves too little; by GMRES alone."""
    patch.setattr(constants, "SOLVE_SMALL", 2**30 if way == "elimination" else 0)
    if way == "gmres":
        patch.setattr(constants, "SOLVE_DIRECT", 0)
        patch.setattr(constants, "SOLVE_STUBBORN", 0)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way to solve for transient tokens."""
    take(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture
def iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is solved directly, one head at a time, as for very many tokens."""
    for name in ("RANK_DIRECT", "RANK_STUBBORN", "CLASS_DIRECT", "CLASS_STUBBORN", "HEAD_BYTES"):
        monkeypatch.setattr(constants, name, 0)
