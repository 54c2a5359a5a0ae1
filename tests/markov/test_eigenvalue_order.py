"""The order of eigenvalues: pairs stay together and begin above the axis, whatever rounding makes of their bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokenrank.markov.eigen.schur import Schur
from tokenrank.markov.engine.eigenvalues import TIE, by_modulus, cuts_pair, eigenvalues, within_circle

ROUNDING = 4 * np.finfo(float).eps


def units(rng: np.random.Generator) -> list[complex]:
    """Single values and first ones of pairs, many of one modulus, of one real part, or the same several times."""
    size = rng.choice([1.0, 0.5, 0.5 + TIE / 2, 0.2, 0.0], 12)
    angle = rng.choice([0, 1 / 8, 1 / 3, 1 / 2, 5 / 6, 1], 12)
    above = (angle > 0) & (angle < 1) & (size > 0)
    values = [complex(v) for v in np.where(above, size * np.exp(1j * np.pi * angle), size * (1 - 2 * (angle == 1)))]
    return values + values[:3]


def spelled(first: list[complex]) -> list[complex]:
    """Both of every pair."""
    return [w for v in first for w in ([v, v.conjugate()] if v.imag else [v])]


@pytest.mark.parametrize("seed", range(20))
def test_pairs_that_rounding_has_pulled_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, partner = [], []
    for value in units(rng):
        if not value.imag:
            partner.append(len(found))
            found.append(value * (1 + rng.uniform(-ROUNDING, ROUNDING)))
            continue
        partner += [len(found) + 1, len(found)]
        both = [value, value.conjugate()][:: int(rng.choice([1, -1]))]
        moved = rng.uniform(1 - ROUNDING, 1 + ROUNDING, (2, 2))  # each part of each on its own
        found += [complex(v.real * m[0], v.imag * m[1]) for v, m in zip(both, moved, strict=True)]
    values = torch.tensor(found, dtype=torch.complex128)
    order = by_modulus(torch.stack([values, values.flip(-1)]))[0]
    assert sorted(order.tolist()) == list(range(len(found)))
    ordered = values[order]
    first = (ordered.imag > 0).nonzero()[:, 0]
    assert (ordered.imag[first + 1] < 0).all()
    assert [partner[i] for i in order[first].tolist()] == order[first + 1].tolist()
    assert (ordered.abs().diff() <= TIE + ROUNDING).all()
    equal = ordered.abs().diff().abs() <= ROUNDING
    assert (ordered.real.diff()[equal] <= 2 * ROUNDING).all()
    assert not any(cuts_pair(ordered[None], i) for i in range(len(found) + 1) if i not in (first + 1).tolist())


def test_blocks_of_a_schur_form_stand_in_the_same_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        blocks = units(rng)
        each = torch.tensor(spelled(blocks), dtype=torch.complex128)
        form = Schur(np.zeros((0, 0)), np.zeros((0, 0)), [1 + 0j, *blocks])
        chosen = [form.values[i] for i in form.leading(len(each))]
        assert spelled(chosen) == each[by_modulus(each[None])[0]].tolist()


def test_a_pair_on_the_circle_stays_conjugate() -> None:
    """Wherever it stands: the last of five values is not computed by the instructions of the first four."""
    for _ in range(3000):
        upper = torch.polar(1 + 1e-15 * torch.rand(2).double(), np.pi * torch.rand(2).double())
        row = torch.cat([torch.ones(1), torch.stack([upper, upper.conj()], -1).flatten()])
        on = within_circle(row)[1:].unflatten(0, (-1, 2))
        assert torch.equal(on[:, 0], on[:, 1].conj())
        assert (on.abs() <= 1 + ROUNDING).all()


def test_the_same_eigenvalues_several_times() -> None:
    """Four rings of three and two of four: pairs that are equal but for rounding, as they come from LAPACK."""
    for sizes in ((3, 3, 3, 3), (4, 4, 3), (8, 8)):
        blocks = [torch.roll(torch.eye(n, dtype=torch.float64), 1, 0) for n in sizes]
        values = within_circle(eigenvalues(torch.block_diag(*blocks)[None]))
        ordered = values.gather(-1, by_modulus(values))[0]
        expected = [complex(np.exp(2j * np.pi * i / n)) for n in sizes for i in range(n)]
        expected = sorted(expected, key=lambda v: (-round(v.real, 9), -abs(round(v.imag, 9))))
        assert ordered.real.numpy() == pytest.approx(np.real(expected), abs=1e-12)
        imaginary = ordered.imag[ordered.imag.abs() > 1e-9]
        assert (imaginary[::2] > 0).all()
        assert (imaginary[1::2] < 0).all()
