"""Krylov spaces of all heads at once, and dominant pairs by squarings, against LAPACK."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.dispatch import Watch
from tokenrank.markov.engine.device_eigen import DominantPair, dominant_pair
from tokenrank.markov.engine.device_space import DeviceSpace


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pair_of(square: Tensor) -> DominantPair:
    """Of matrices that nothing leads out of."""
    h, m, _ = square.shape
    projection = torch.cat([square, square.new_zeros(h, 2, m)], 1).double()
    return dominant_pair(projection, torch.eye(2, dtype=torch.float64).expand(h, 2, 2), generator())


def turned(values: list[complex], condition: float = 1.0) -> Tensor:
    """A real matrix with these eigenvalues, pairs given once, and eigenvectors of that condition."""
    blocks = [
        torch.tensor([[v.real, v.imag], [-v.imag, v.real]]) if v.imag else torch.tensor([[v.real]]) for v in values
    ]
    form = torch.block_diag(*blocks).double()
    m = len(form)
    q = torch.linalg.qr(torch.randn(m, m, dtype=torch.float64)).Q
    p = torch.linalg.qr(torch.randn(m, m, dtype=torch.float64)).Q
    vectors = q @ torch.diag(torch.logspace(0, -torch.tensor(condition).log10().item(), m, dtype=torch.float64)) @ p
    return vectors @ form @ torch.linalg.inv(vectors)


FEW = [0.3, -0.2, 0.1 + 0.2j, 0.05, 0.0]
MATRICES = {
    "one": [0.9, *FEW],
    "negative": [-0.9, *FEW],
    "a pair": [0.6 + 0.6j, *FEW],
    "a number and its negative": [0.9, -0.9, *FEW],
    "close ones": [0.9, 0.8999, *FEW],
    "almost a double one": [0.9, 0.9 - 1e-9, *FEW],
    "an almost real pair": [0.9 + 1e-4j, *FEW],
    "small": [1e-9, 1e-10],
}


@pytest.mark.parametrize("values", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("condition", [1.0, 100.0])
def test_dominant_pairs(values: list[complex], condition: float) -> None:
    square = turned([complex(v) for v in values], condition)[None]
    with Watch() as seen:
        pair = pair_of(square)
    assert not seen.waits
    largest = max(abs(v) for v in values)
    assert float(pair.radius) == pytest.approx(largest, rel=1e-5, abs=1e-12)
    assert float(pair.modulus) == pytest.approx(largest, rel=1e-6, abs=1e-12)
    assert float(pair.residual) <= 1e-6
    y = torch.view_as_complex(pair.coordinates.contiguous())
    image = square[0].to(y.dtype) @ y[0]
    theta = y[0].conj() @ image
    assert torch.linalg.vector_norm(image - theta * y[0]) == pytest.approx(float(pair.residual), abs=1e-9)


def test_conditions_are_those_of_lapack() -> None:
    square = torch.stack([turned([0.9, *FEW], c) for c in (1.0, 10.0, 1e3)])
    pair = pair_of(square)
    for one, found in zip(square, pair.condition, strict=True):
        values, vectors = torch.linalg.eig(one)
        lead = int(values.abs().argmax())
        exact = torch.linalg.vector_norm(torch.linalg.inv(vectors)[lead])
        assert float(found) == pytest.approx(float(exact), rel=1e-5)


def test_what_has_no_dominant_pair_says_so() -> None:
    """A ring, a Jordan block and a nilpotent matrix have residuals or conditions that are large, and no NaN."""
    ring = torch.roll(torch.eye(6), 1, 1)
    jordan = 0.9 * torch.eye(6) + torch.diag(torch.ones(5), 1)
    nilpotent = torch.diag(torch.ones(5), 1)
    pair = pair_of(torch.stack([ring, jordan, nilpotent]).double())
    for part in (pair.modulus, pair.radius, pair.residual, pair.condition, pair.seen, pair.coordinates, pair.block):
        assert not torch.isnan(part).any()
    assert ((pair.residual > 1e-3) | (pair.condition > 1e6)).all()
    zero = pair_of(torch.zeros(1, 6, 6))
    assert float(zero.modulus) == float(zero.residual) == 0


def closing(h: int, n: int) -> Tensor:
    """Matrices of full rank, of rank three, of rank one, and none."""
    full = torch.randn(h, n, n) / n**0.5
    few = torch.randn(n, 3) @ torch.randn(3, n) / n
    return torch.stack([full[0], few, torch.outer(torch.randn(n), torch.randn(n)) / n, torch.zeros(n, n)])


def test_the_recurrence_holds_where_spaces_close() -> None:
    n, b = 60, 4
    m = closing(1, n)
    space = DeviceSpace(torch.randn(n, b).expand(4, -1, -1), 40, generator())
    with Watch() as seen:
        while not space.full:
            space.extend(lambda x: torch.bmm(m, x))
    assert not seen.waits
    assert space.dimension == 40
    basis, projection = space.basis.double(), space.projection
    gram = basis.mT @ basis - torch.eye(44, dtype=torch.float64)
    assert gram.abs().max() <= 1e-5
    off = m.double() @ basis[..., :40] - basis @ projection
    assert torch.linalg.matrix_norm(off, 2).max() <= 2e-5


def test_a_block_whose_first_columns_depend_on_one_another_loses_nothing() -> None:
    """Directions along which earlier columns have almost nothing, and later ones much."""
    n, b = 50, 4
    m = torch.zeros(1, n, n)
    m[0, 10, 0], m[0, 10, 1], m[0, 11, 1] = 1.0, 1.0, 1e-9
    m[0, 11, 2], m[0, 12, 3] = 1.0, 0.5
    space = DeviceSpace(torch.eye(n)[:, :b][None], 8, generator())
    space.extend(lambda x: torch.bmm(m, x))
    basis = space.basis.double()
    off = m.double() @ basis[..., :b] - basis @ space.projection
    assert torch.linalg.matrix_norm(off, 2).max() <= 1e-5
