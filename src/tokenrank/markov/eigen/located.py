"""Located eigenvalues: all of a chain but λ1, class by class, with how far each may be off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...operators import Operator
from ..engine.eigenvalues import by_modulus, deflated, eigen, within_circle
from ..engine.enclosure import EPS, discs, radius_from_powers, spread
from ..support.communicating import Graph, graphs

ERROR = 5e-4  # error of an eigenvalue that is let pass: proved, or condition · residual where nothing can be
LOOSE = 1e-4  # width of an interval from which powers are asked, too


@dataclass(frozen=True)
class Located:
    """Eigenvalues λ2, λ3, … of h chains.

    Attributes:
        values: complex128 (h, N−1), ordered as ``by_modulus`` says.
        distance: float64 (h, N−1): to each value belongs an eigenvalue of its own that is no farther from it; inf
            where nothing was proved.
        lower, upper: |λ2| is between them, proved, (h,).
        vectors: unit eigenvectors on the quotient, complex (h, N−1, N−1); None where some chain has several classes.
    """

    values: Tensor
    distance: Tensor
    lower: Tensor
    upper: Tensor
    vectors: Tensor | None = None


@dataclass(frozen=True)
class Block:
    """A class of two states or more: whose, which states, whether nothing leads out of it, and its period."""

    head: int
    states: np.ndarray
    recurrent: bool
    period: int


def locate(a: Tensor, graphs: Sequence[Graph], relative: Tensor) -> Located:
    """All eigenvalues but one 1 of chains A (h, N, N) in float64.

    A chain is block triangular in the order of its classes, so that its eigenvalues are those of the classes, whatever
    leads from one to another: a state that is a class has A_ii, exactly, and a chain that never comes back to a
    token nothing else. Recurrent classes have the eigenvalue 1, and |λ| = 1 more than once where they are periodic.

    Args:
        a: the chains.
        graphs: the classes of each.
        relative: how far an entry of A may be from the one that is meant, relatively, (h,).
    """
    heads, n = a.shape[:2]
    if n == 1:
        zero = torch.zeros(heads, dtype=torch.float64, device=a.device)
        none = a.new_zeros(heads, 0)
        return Located(none.to(torch.complex128), none, zero, zero, none[:, None].expand(-1, 0, 0).to(torch.complex128))
    if all(len(graph.recurrent) == 1 for graph in graphs):
        return _of_blocks(a, True, relative, a.new_tensor([int(graph.period[0]) for graph in graphs], dtype=torch.long))
    parts: list[list[tuple[Tensor, Tensor, Tensor, Tensor]]] = [[] for _ in range(heads)]
    for head, graph in enumerate(graphs):
        parts[head].append(_alone(a[head].diagonal(), graph, relative[head]))
    for some in _alike(graphs):
        matrices = torch.stack([a[b.head][_grid(b.states, a)] for b in some])
        which, period = a.new_tensor([[b.head for b in some], [b.period for b in some]], dtype=torch.long)
        found = _of_blocks(matrices, some[0].recurrent, relative[which], period)
        for i, block in enumerate(some):
            parts[block.head].append((found.values[i], found.distance[i], found.lower[i], found.upper[i]))
    values = torch.stack([torch.cat([part[0] for part in own]) for own in parts])
    distance = torch.stack([torch.cat([part[1] for part in own]) for own in parts])
    order = by_modulus(values)
    lower, upper = (torch.stack([torch.stack([part[i] for part in own]).amax(0) for own in parts]) for i in (2, 3))
    return Located(values.gather(-1, order), distance.gather(-1, order), lower, upper)


def largest_modulus(
    diagonal: Tensor, entries: Callable[[np.ndarray], Tensor], graph: Graph, relative: Tensor, largest: int
) -> tuple[Tensor, Tensor, Tensor, list[Block]]:
    """|λ2| of one chain as far as its classes of at most ``largest`` tokens tell.

    Args:
        diagonal: A_ii, (N,) in float64.
        entries: states (m,) → A among them, (m, m) in float64 on the device of the diagonal.
        graph: its classes.
        relative: how far an entry may be off, relatively.
        largest: tokens that a class may have whose eigenvalues are all taken.

    Returns a value, its proved bounds, and the classes that are left, of which nothing is in these numbers.
    """
    values, _, lower, upper = _alone(diagonal, graph, relative)
    value, left = torch.cat([values.abs(), lower[None]]).amax(), []
    for some in _alike([graph]):
        if any(block.period > 1 and block.recurrent for block in some):
            value = lower = upper = torch.ones_like(value)
        elif len(some[0].states) > largest:
            left += some
        else:
            matrices = torch.stack([entries(block.states) for block in some])
            period = diagonal.new_ones(len(some), dtype=torch.long)
            found = _of_blocks(matrices, some[0].recurrent, relative.expand(len(some)), period)
            value = torch.maximum(value, found.values[:, 0].abs().amax())
            lower, upper = torch.maximum(lower, found.lower.amax()), torch.maximum(upper, found.upper.amax())
    if float(lower) >= 1:
        left = []
    return torch.minimum(torch.maximum(value, lower), upper), lower, upper, left


def small(graph: Graph, largest: int) -> list[np.ndarray]:
    """The states of each class whose entries ``largest_modulus`` asks for."""
    of_size = [some for some in _alike([graph]) if len(some[0].states) <= largest]
    return [b.states for some in of_size if not any(b.period > 1 and b.recurrent for b in some) for b in some]


def classes(flat: Operator) -> list[Graph]:
    """The classes of every head (h, N, N)."""
    heads, found = flat.shape[0], graphs(flat)[1]
    return found * heads if len(found) < heads else found


def relative_error(flat: Operator) -> Tensor:
    """How far an entry of A (h, N, N) in float64 may be off, relatively, (h,); what is below 1e-300 may be lost."""
    return torch.expm1(flat.entry_error(torch.float64)) + (flat.num_tokens + 4) * EPS


def _alone(diagonal: Tensor, graph: Graph, relative: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes of one state, and the 1 of every recurrent class but one: values, distances, bounds of the largest."""
    size = np.bincount(graph.labels)
    passed = ((size[graph.labels] == 1) & ~graph.recurrent[graph.labels]).nonzero()[0]
    diagonal = diagonal[diagonal.new_tensor(passed, dtype=torch.long)]
    ones = diagonal.new_ones(int(graph.recurrent.sum()) - 1)
    off = diagonal * relative * (1 + EPS)
    zero = diagonal.new_zeros(1)
    lower = torch.cat([zero, diagonal - off, ones]).amax()
    upper = torch.cat([zero, diagonal + off, ones]).amax().clamp(max=1)
    return torch.cat([ones, diagonal]).to(torch.complex128), torch.cat([0 * ones, off]), lower, upper


def _alike(graphs: Sequence[Graph]) -> list[list[Block]]:
    """The classes of two states or more of all heads, those of one size and kind together."""
    kinds: dict[tuple[int, bool], list[Block]] = {}
    for head, graph in enumerate(graphs):
        size = np.bincount(graph.labels)
        for label in (size > 1).nonzero()[0]:
            recurrent = bool(graph.recurrent[label])
            states = (graph.labels == label).nonzero()[0]
            kinds.setdefault((len(states), recurrent), []).append(
                Block(head, states, recurrent, int(graph.period[label]))
            )
    return list(kinds.values())


def _grid(states: np.ndarray, a: Tensor) -> tuple[Tensor, Tensor]:
    index = a.new_tensor(states, dtype=torch.long)
    return index[:, None], index


def _of_blocks(a: Tensor, recurrent: bool, relative: Tensor, period: Tensor) -> Located:
    """Irreducible matrices (h, n, n): all eigenvalues of those that lose mass, all but the 1 of those that do not."""
    n = a.shape[-1]
    size = torch.linalg.matrix_norm(a)
    matrix = deflated(a) if recurrent else a
    slack = 1e-290 + size * (relative + (16 * (n + 8) * EPS if recurrent else 0.0))
    values, vectors = eigen(matrix)
    order = by_modulus(values)
    values = values.gather(-1, order)
    vectors = vectors.gather(-1, order[:, None].expand_as(vectors))
    radius = discs(matrix, values, vectors, slack)
    distance = spread(values, radius)
    lower = (values.abs() - distance).amax(-1).clamp(min=0)
    upper = (values.abs() + radius).amax(-1)
    if not recurrent:
        smallest, largest = _perron(a, vectors[..., 0].abs(), relative)
        lower, upper = torch.maximum(lower, smallest), torch.minimum(upper, largest)
    loose = (upper - lower > LOOSE).nonzero()[:, 0]
    if len(loose):
        smallest, largest = radius_from_powers(matrix[loose], slack[loose])
        lower[loose] = torch.maximum(lower[loose], smallest)
        upper[loose] = torch.minimum(upper[loose], largest)
    lower = torch.where(period > 1, 1.0, lower) if recurrent else lower
    upper = upper.clamp(max=1)
    if bool((values.abs() > 1).any()):
        values = within_circle(values)
        order = by_modulus(values)
        values, distance = values.gather(-1, order), distance.gather(-1, order)
        vectors = vectors.gather(-1, order[:, None].expand_as(vectors))
    distance = torch.minimum(distance, values.abs() + upper[:, None])  # all of them lie in that circle
    return Located(values, distance, torch.minimum(lower, upper), upper, vectors)


def _perron(a: Tensor, x: Tensor, relative: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the largest eigenvalue of matrices ≥ 0 from any x > 0 (h, n): the extreme ratios (A x)_i / x_i.

    No condition number enters. Source: Collatz, "Einschließungssatz für die charakteristischen Zahlen von Matrizen"
    (1942).
    """
    x = x.clamp(min=1e-300)
    ratio = (a @ x[..., None])[..., 0] / x
    off = relative + (a.shape[-1] + 4) * EPS
    return ratio.amin(-1) * (1 - off), ratio.amax(-1) * (1 + off)
