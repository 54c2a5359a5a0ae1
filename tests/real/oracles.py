"""Right answers by LAPACK in float64, from the dense matrices of heads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tokenrank import AttentionChain

Array = npt.NDArray[np.float64]


def dense(chain: AttentionChain) -> Array:
    """The chains as float64 (heads, N, N); rows sum to one."""
    matrices = chain.operator.to_dense(torch.float64).numpy()
    return np.asarray(matrices / matrices.sum(-1, keepdims=True))


def tokenrank(matrix: Array, alpha: float) -> Array:
    """πᵀ = α πᵀP + (1 − α)/N, as one system of equations."""
    n = len(matrix)
    return np.asarray(np.linalg.solve(np.eye(n) - alpha * matrix.T, np.full(n, (1 - alpha) / n)))


def lambda2(matrix: Array) -> float:
    """The second largest modulus of an eigenvalue."""
    return float(np.sort(np.abs(np.linalg.eigvals(matrix)))[-2])


def check_heads(chain: AttentionChain, alpha: float = 0.99) -> int:
    """TokenRank and |λ2| of all heads are LAPACK's, as close as their certificates say; how many heads there were."""
    matrices, ranks, moduli = dense(chain), chain.tokenrank(alpha), chain.lambda2()
    bound = ranks.certificate.error_bound
    assert bound is not None
    assert bool(ranks.certificate.converged.all())
    assert float(bound.max()) < 1e-3
    for head, matrix in enumerate(matrices):
        off = np.abs(ranks.values[head].double().numpy() - tokenrank(matrix, alpha)).sum()
        assert off <= float(bound[head]) + 1e-12, (head, off, float(bound[head]))
        off = abs(float(moduli.values[head]) - lambda2(matrix))
        proved = None if moduli.certificate.error_bound is None else float(moduli.certificate.error_bound[head])
        assert proved is None or off <= proved + 1e-12, (head, off, proved)
        assert off <= 1e-3 or bool(moduli.certificate.uncertain[head]), (head, off)
    return len(matrices)
