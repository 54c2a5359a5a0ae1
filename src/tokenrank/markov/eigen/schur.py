"""Real Schur forms of one matrix: orthonormal invariant subspaces in any order, however parallel its eigenvectors are.

For the few chains whose eigenvectors are no basis; one at a time, in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..engine.eigenvalues import by_modulus, deflated, eigen, lifted, real_columns
from ..support.communicating import Graph

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

NEGLECTED = 1e-13  # coupling of a part split off to what is left, relative to the matrix, that is rounding
SWAPPED = 1e-12  # what may be left below the diagonal when two blocks are exchanged, relative to the matrix


@dataclass
class Schur:
    """A = Qᵀ' T Q' with the vectors in the rows of Q' = ``rows``, T block upper triangular.

    Attributes:
        t: (n, n).
        rows: (n, n), orthonormal.
        values: the eigenvalues of the blocks along the diagonal, each once or as the first of a pair.
    """

    t: Floats
    rows: Floats
    values: list[complex]

    @property
    def starts(self) -> list[int]:
        """Where the blocks begin, and the end."""
        return [0, *np.cumsum([self._size(i) for i in range(len(self.values))]).tolist()]

    def leading(self, count: int) -> list[int]:
        """Blocks of the ``count`` (or one more, to cut no pair) largest eigenvalues after the first, in order."""
        rest = range(1, len(self.values))
        each = [(i, v) for i in rest for v in ([self.values[i], self.values[i].conjugate()][: self._size(i)])]
        order = by_modulus(torch.tensor([[v for _, v in each]], dtype=torch.complex128))[0].tolist()
        ordered = list(dict.fromkeys(each[place][0] for place in order))
        chosen: list[int] = []
        while count > 0 and len(chosen) < len(ordered):
            chosen.append(ordered[len(chosen)])
            count -= self._size(chosen[-1])
        return chosen

    def _size(self, block: int) -> int:
        return 2 if self.values[block].imag else 1

    def moved(self, order: Sequence[int], back: bool = False) -> Schur:
        """The form with the blocks ``order`` behind the first one, or from the last one on backwards."""
        form = Schur(self.t.copy(), self.rows.copy(), list(self.values))
        here = list(range(len(self.values)))
        for number, block in enumerate(order):
            place = here.index(block)
            target = len(here) - 1 - number if back else 1 + number
            step = 1 if back else -1
            while (target - place) * step > 0 and form._exchange(min(place, place + step)):
                here[place], here[place + step] = here[place + step], here[place]
                place += step
        return form

    def _exchange(self, block: int) -> bool:
        """Exchange a block with the next one by an orthogonal matrix; False where that cannot be done stably.

        Source: Bai and Demmel, "On swapping diagonal blocks in real Schur form" (1993).
        """
        start, middle, end = self.starts[block : block + 3]
        if end - start == 2:
            return self._exchange_single(block, start)
        part = slice(start, end)
        t = self.t[part, part]
        p = middle - start
        a, b, c = t[:p, :p], t[p:, p:], t[:p, p:]
        q = len(b)
        system = np.kron(np.eye(q), a) - np.kron(b.T, np.eye(p))
        x = np.linalg.lstsq(system, c.T.reshape(-1), rcond=None)[0].reshape(q, p).T
        turn = np.linalg.qr(np.vstack([-x, np.eye(q)]), mode="complete")[0]
        turned = turn.T @ t @ turn
        if np.abs(turned[q:, :q]).max() > SWAPPED * max(np.abs(t).max(), 1e-300):
            return False
        self.turn(part, turn)
        self.t[start + q : end, start : start + q] = 0
        self.values[block : block + 2] = self.values[block + 1], self.values[block]
        return True

    def _exchange_single(self, block: int, i: int) -> bool:
        one, other, between = self.t[i, i], self.t[i + 1, i + 1], self.t[i, i + 1]
        size = np.hypot(between, other - one)
        if size == 0:  # they are the same, and apart: the axes change places
            cosine, sine = 0.0, 1.0
        else:
            cosine, sine = between / size, (other - one) / size
        self.turn(slice(i, i + 2), np.array([[cosine, -sine], [sine, cosine]]))
        self.t[i, i], self.t[i + 1, i + 1], self.t[i + 1, i] = other, one, 0
        self.values[block : block + 2] = self.values[block + 1], self.values[block]
        return True

    def turn(self, part: slice, turn: Floats) -> None:
        """Turn the vectors of some rows among themselves by an orthogonal matrix."""
        self.t[part] = turn.T @ self.t[part]
        self.t[:, part] = self.t[:, part] @ turn
        self.rows[part] = turn.T @ self.rows[part]


def schur(matrix: Floats) -> Schur:
    """All of one matrix (m, m): eigenvalues by LAPACK, again and again for what their vectors do not split off.

    Of the eigenvectors in order, made orthonormal, a leading part is kept whose span is invariant to rounding; it
    is more than none, as one eigenvector always is. What is orthogonal to it is a smaller matrix.
    """
    m = len(matrix)
    form = Schur(matrix.copy(), np.eye(m), [])
    scale = max(float(np.linalg.norm(matrix)), 1e-300)
    done = 0
    while done < m:
        rest = form.t[done:, done:].copy()
        basis, values = _split(rest, scale)
        form.t[:, done:] = form.t[:, done:] @ basis
        form.t[done:] = basis.T @ form.t[done:]
        form.rows[done:] = basis.T @ form.rows[done:]
        for value in values:
            size = 2 if value.imag else 1
            form.t[done + size :, done : done + size] = 0
            form.values.append(value if value.imag else complex(form.t[done, done]))
            done += size
    return form


def _split(matrix: Floats, scale: float) -> tuple[Floats, list[complex]]:
    """An orthogonal matrix whose leading columns span invariant subspaces, and the eigenvalues of these."""
    found, vectors = eigen(torch.from_numpy(matrix)[None])
    order = by_modulus(found)
    found, vectors = found.gather(-1, order), vectors.gather(-1, order[:, None].expand_as(vectors))
    values = found[0].numpy()
    columns = real_columns(found, vectors)[0].numpy()
    basis = np.linalg.qr(columns)[0]
    ends = [i + 1 for i, v in enumerate(values) if v.imag <= 0]  # not between the two of a pair
    kept = 0
    for end, coupling in zip(ends, _couplings(basis.T @ matrix @ basis, ends), strict=True):
        if coupling > NEGLECTED * scale * len(matrix) ** 0.5:
            break
        kept = end
    if kept:
        return basis, [complex(v) for v in values[:kept] if v.imag >= 0]
    # the two vectors of a pair are almost one: it is closer to a single real one, half way
    z = vectors[0, :, 0].numpy()
    turned = z * np.exp(-0.5j * np.angle((z * z).sum()))
    single = np.linalg.qr(np.column_stack([turned.real, np.eye(len(matrix))]))[0][:, : len(matrix)]
    image = single.T @ matrix @ single
    if not values[0].imag or np.linalg.norm(image[1:, 0]) <= _couplings(basis.T @ matrix @ basis, [2])[0]:
        return single, [complex(image[0, 0])]
    return basis, [complex(values[0])]


def _couplings(form: Floats, ends: Sequence[int]) -> list[float]:
    """Norm of what leads from the first columns to later rows, for each number of columns."""
    below = np.cumsum(np.cumsum((form**2)[::-1], 0)[::-1], 1)  # rows from i on, columns up to j
    return [float(np.sqrt(below[end, end - 1])) if end < len(form) else 0.0 for end in ends]


def chain_schur(a: Floats, classes: Sequence[Ints], recurrent: Sequence[bool]) -> Schur:
    """Of a chain (N, N), class by class, so that exact eigenvalues stay exact; λ1 and the constant vector first.

    Args:
        a: A.
        classes: the states of each class, each before those that it leads to.
        recurrent: whether each is; the last one always is.
    """
    n = len(a)
    order = np.concatenate(classes)
    form = Schur(a[np.ix_(order, order)].copy(), np.eye(n)[order], [])
    ones: list[int] = []
    done = 0
    for states, stays in zip(classes, recurrent, strict=True):
        size = len(states)
        part = slice(done, done + size)
        if stays:
            ones.append(len(form.values))
            inner = schur(deflated(torch.from_numpy(a[np.ix_(states, states)])[None])[0].numpy())
            rest = lifted(torch.from_numpy(inner.rows.T.copy())[None])[0].numpy()
            _embed(form, part, np.column_stack([np.full(size, size**-0.5), rest]), [1 + 0j, *inner.values])
            form.t[part.start, part.start] = 1
        elif size > 1:
            inner = schur(a[np.ix_(states, states)])
            _embed(form, part, inner.rows.T, inner.values)
        else:
            form.values.append(complex(a[states[0], states[0]]))
        done += size
    _constant_first(form, ones[-1])
    return form


def _constant_first(form: Schur, block: int) -> None:
    """Bring λ1 = 1 and the constant vector to the front, from a block that is the 1 of the last recurrent class.

    The constant vector is an eigenvector whose coordinates end at that block; turned away one after the other from
    below, they take the eigenvalue along. Nothing is divided by what other eigenvalues are apart.
    """
    n = len(form.t)
    c = form.rows.sum(1) / n**0.5
    starts = form.starts
    for row in range(starts[block], 0, -1):
        size = float(np.hypot(c[row - 1], c[row]))
        cosine, sine = c[row - 1] / size, c[row] / size
        form.turn(slice(row - 1, row + 1), np.array([[cosine, -sine], [sine, cosine]]))
        c[row - 1], c[row] = size, 0
    form.values.insert(0, form.values.pop(block))
    starts = form.starts
    for place in range(block + 1):
        form.t[starts[place + 1] : starts[block + 1], starts[place] : starts[place + 1]] = 0
        value = form.values[place]
        if not value.imag:
            form.t[starts[place], starts[place]] = value.real
    form.rows[0] = n**-0.5


def _embed(form: Schur, part: slice, basis: Floats, values: Sequence[complex]) -> None:
    """Turn a diagonal block into its own Schur form, whose blocks have these values."""
    form.turn(part, basis)
    start = part.start
    for value in values:
        end = start + (2 if value.imag else 1)
        form.t[end : part.stop, start:end] = 0
        start = end
    form.values += values


def in_order(graph: Graph, possible: Bools) -> tuple[list[Ints], list[bool]]:
    """The classes of a support, each before those it leads to, and whether they are recurrent."""
    count = len(graph.recurrent)
    by_class = graph.labels.argsort(kind="stable")
    members = np.split(by_class, np.searchsorted(graph.labels[by_class], np.arange(1, count)))
    leads = np.zeros((count, count), dtype=bool)
    start, end = possible.nonzero()
    leads[graph.labels[start], graph.labels[end]] = True
    np.fill_diagonal(leads, False)
    order: list[int] = []
    waiting = leads.sum(0)
    ready = [c for c in range(count) if not waiting[c]]
    while ready:
        one = ready.pop()
        order.append(one)
        waiting = waiting - leads[one]
        ready += [c for c in leads[one].nonzero()[0].tolist() if not waiting[c]]
    return [members[c] for c in order], [bool(graph.recurrent[c]) for c in order]
