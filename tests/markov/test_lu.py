"""LU of one matrix at a time, and inverses by QR, against rational numbers and LAPACK through NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenrank.markov.engine.lu import factor, inverses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("n", [1, 7, 160, 300])
@pytest.mark.parametrize("by_rows", [True, False])
def test_solves_are_those_of_numpy(dtype: torch.dtype, n: int, by_rows: bool) -> None:
    matrix = torch.randn(n, n, dtype=dtype) + 2 * torch.eye(n, dtype=dtype)
    matrix = matrix if by_rows else matrix.mT.contiguous().mT
    before, b = matrix.clone(), torch.randn(n, 3, dtype=dtype)
    found = factor(matrix)
    assert not found.singular
    assert torch.equal(matrix, before)
    close = {"rtol": 1e-2 if dtype == torch.float32 else 1e-9, "atol": 1e-3 if dtype == torch.float32 else 1e-10}
    np.testing.assert_allclose(found.solve(b), np.linalg.solve(matrix.numpy(), b.numpy()), **close)
    np.testing.assert_allclose(found.solve_transposed(b), np.linalg.solve(matrix.numpy().T, b.numpy()), **close)


def test_two_threads_change_nothing() -> None:
    """What PyTorch's batched LU gets wrong from 150 rows on with two threads or more."""
    matrices = torch.rand(6, 200, 200, dtype=torch.float64) + torch.eye(200, dtype=torch.float64)
    b = torch.rand(200, 2, dtype=torch.float64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [factor(matrix).solve(b) for matrix in matrices]
    finally:
        torch.set_num_threads(before)
    for matrix, x in zip(matrices, found, strict=True):
        assert (matrix @ x - b).abs().max() < 1e-11


@pytest.mark.parametrize("matrix", [[[0.0]], [[1.0, 2.0], [2.0, 4.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0] * 3]])
def test_singular_is_said_and_never_raised(matrix: list[list[float]]) -> None:
    found = factor(torch.tensor(matrix, dtype=torch.float64))
    assert found.singular
    b = torch.ones(len(matrix), 2, dtype=torch.float64)
    for x in (found.solve(b), found.solve_transposed(b)):
        assert torch.isposinf(x).all()


def test_overflow_is_infinite_and_no_nan() -> None:
    matrix = torch.tensor([[1e-300, 1.0], [0.0, 1e-300]], dtype=torch.float64)
    x = factor(matrix).solve(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert not x.isnan().any()
    assert x.isinf().any()


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one"):
        factor(torch.eye(3).expand(2, 3, 3))


def test_inverses_by_qr() -> None:
    matrices = torch.randn(5, 4, 6, 6, dtype=torch.float64)
    matrices[2, 1, 3] = 0.0
    matrices[4, 0, :, 2] = 0.0
    inverse, regular = inverses(matrices)
    expected = torch.ones(5, 4, dtype=torch.bool)
    expected[2, 1] = expected[4, 0] = False
    assert torch.equal(regular, expected)
    assert torch.isposinf(inverse[~regular]).all()
    np.testing.assert_allclose(inverse[regular], np.linalg.inv(matrices[regular].numpy()), rtol=1e-8, atol=1e-10)
