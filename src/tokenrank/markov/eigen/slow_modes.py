"""Slow modes of heads: by substitution, all eigenvalues or a Krylov space; what fails is repaired one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...operators import Dense, Operator
from ..engine import constants
from ..engine.eigenvalues import by_modulus, cuts_pair, lifted, real_basis, within_circle
from ..engine.krylov import centred
from ..engine.transfer import sent
from ..engine.triangular import triangular_vectors
from ..support.communicating import Graph
from .copies import copies_left_out, copies_on_circle, small_enough
from .host_copy import HostCopy
from .located import ERROR, Located, classes, locate, relative_error
from .modes import Modes, Side, error_bound, joined, measured, moved
from .schur import chain_schur, in_order
from .slow_space import TOLERANCE, rayleigh_ritz, slow_space, start_width

ALLOWED = 1e-7  # and that a basis may have that was found in double precision


def slow_modes(group: Operator, source: Operator, wanted: int, left: bool, seed: int) -> Modes:
    """``wanted`` eigenvalues after λ1 of heads (h, N, N), or one more where that would cut a pair.

    Args:
        group: the heads, materialised where that pays.
        source: the same heads as they were given.
        wanted: 0 … N−1.
        left: whether left subspaces are wanted, too.
        seed: of random starts.
    """
    n = group.num_tokens
    if group.structure != "full":
        return _triangular(group, source, wanted, left)
    if n <= constants.ALL_EIGENVALUES or 2 * wanted >= n:  # a Krylov space of most dimensions is no shorter way
        return _all(group, source, wanted, left)
    if source.path == "device":
        return _krylov(group, source, wanted, left, seed)
    if not isinstance(group, Dense):
        return _krylov(group, source, wanted, left, seed)
    parts, order = [], []
    single = [] if bool(source.support().all()) else _tokens_alone(source)
    for head, graph, possible in single:  # triangular but for the order of its tokens
        parts.append(_permuted(group, source, head, in_order(graph, possible)[0], wanted, left))
        order.append(head)
    alone = set(order)
    others = [head for head in range(group.shape[0]) if head not in alone]
    if others:
        rest = torch.tensor(others, device=group.device)
        parts.append(_krylov(_part(group, rest), _part(source, rest), wanted, left, seed))
    return _ordered(joined(parts), torch.tensor(order + others, device=group.device))


def _part(operator: Operator, heads: Tensor) -> Operator:
    return operator if len(heads) == operator.shape[0] else operator.index(heads)


def _ordered(modes: Modes, heads: Tensor) -> Modes:
    """Heads that stand in the order ``heads`` put in their own."""
    if bool((heads[1:] > heads[:-1]).all()):
        return modes
    out = _empty(len(heads), modes.right.basis.shape[1], modes.values.shape[1], modes.left is not None, modes)
    out.put(heads, modes)
    return out


def _empty(heads: int, n: int, m: int, left: bool, like: Modes) -> Modes:
    values = like.values.new_full((heads, m), torch.nan)

    def side() -> Side:
        new = like.right.basis.new_zeros
        return Side(new(heads, n, m), new(heads, m), torch.zeros(heads, dtype=torch.bool, device=values.device))

    bound = torch.full((heads,), torch.inf, dtype=torch.float64, device=values.device)
    return Modes(values, side(), side() if left else None, bound, bound < 0, like.applies, like.method)


# ---- triangular chains


def _triangular(group: Operator, source: Operator, wanted: int, left: bool) -> Modes:
    """Eigenvalues from the diagonal, vectors by substitution; where these are no basis, by rotations."""
    n = group.num_tokens
    diagonal = group.diagonal(torch.float64)
    last = 0 if group.structure == "lower" else n - 1  # it has nobody to go on to: its eigenvalue is λ1
    others = diagonal.clone()
    others[:, last] = -1
    top = others.topk(min(wanted, n), -1).values
    values = torch.complex(top, torch.zeros_like(top))
    sides = []
    for transposed in (False, True) if left else (False,):
        basis = torch.linalg.qr(centred(triangular_vectors(group, wanted, transposed))).Q
        sides.append(measured(group, values, basis, transposed, ALLOWED))
    bound = top.amax(-1) * relative_error(source) if wanted else torch.zeros_like(diagonal[:, 0])
    broken = torch.stack([~side.sound for side in sides]).any(0).nonzero()[:, 0]
    modes = Modes(values, sides[0], sides[1] if left else None, bound, bound <= ERROR, 2, "substitution")
    if len(broken) and n <= constants.SPECTRUM_ROTATED:
        tokens = list(np.arange(n)[:, None])
        tokens = tokens[::-1] if group.structure == "lower" else tokens
        repaired = [_rotated(group.index(slice(h, h + 1)), tokens, wanted, left) for h in broken.tolist()]
        modes.put(broken, _with(joined(repaired), bound[broken]))
    return _certified(modes)


def _with(modes: Modes, bound: Tensor) -> Modes:
    return Modes(modes.values, modes.right, modes.left, bound, bound <= ERROR, modes.applies, modes.method)


def _rotated(one: Operator, tokens: list[np.ndarray], wanted: int, left: bool) -> Modes:
    """A chain (1, N, N) whose classes are single tokens, in order."""
    a = one.to_dense(torch.float64)[0]
    flags = [False] * (len(tokens) - 1) + [True]
    zero = torch.zeros(1, dtype=torch.float64, device=a.device)
    return _by_schur(one, a, tokens, flags, wanted, wanted, left, zero)


def _tokens_alone(source: Operator) -> list[tuple[int, Graph, np.ndarray]]:
    """Heads in which every token is a class: number, classes, support."""
    support = source.support().expand(source.shape)
    found = enumerate(classes(source))
    return [(i, g, support[i].cpu().numpy()) for i, g in found if len(g.recurrent) == source.num_tokens]


def _permuted(group: Operator, source: Operator, head: int, tokens: list[np.ndarray], wanted: int, left: bool) -> Modes:
    order = torch.from_numpy(np.concatenate(tokens)).to(group.device)
    a = group.index(slice(head, head + 1)).to_dense(torch.float64)[:, order[:, None], order]
    modes = _triangular(Dense(a, "upper"), source.index(slice(head, head + 1)), wanted, left)
    m = min(wanted + 1, group.num_tokens - 1)
    wide = _empty(1, group.num_tokens, m, left, modes)
    padded = Modes(
        torch.cat([modes.values, modes.values.new_full((1, m - modes.values.shape[1]), torch.nan)], -1),
        _unpermuted(modes.right, order, m),
        None if modes.left is None else _unpermuted(modes.left, order, m),
        modes.bound,
        modes.certain,
        modes.applies,
        modes.method,
    )
    wide.put(torch.tensor([0], device=group.device), padded)
    return wide


def _unpermuted(side: Side, order: Tensor, m: int) -> Side:
    basis = side.basis.new_zeros(1, len(order), m)
    basis[:, order, : side.basis.shape[-1]] = side.basis
    residual = torch.nn.functional.pad(side.residual, (0, m - side.residual.shape[-1]))
    return Side(basis, residual, side.sound)


# ---- all eigenvalues


def _all(group: Operator, source: Operator, wanted: int, left: bool) -> Modes:
    """LAPACK's eigenvectors where they span what they have to, Schur forms of single heads where not."""
    if source.path == "device":
        chains = HostCopy.of(source)
        return moved(_all(chains, chains, wanted, left), source.device)
    a = group.to_dense(torch.float64)
    found, relative = classes(source), relative_error(source)
    several = torch.tensor([len(graph.recurrent) > 1 for graph in found], device=a.device)
    parts, order = [], []
    for kind in (~several, several):
        some = kind.nonzero()[:, 0]
        if len(some):
            own = [found[i] for i in some.tolist()]
            known = locate(a[some], own, relative[some])
            parts.append(_from_located(a[some], _part(source, some), known, own, wanted, left))
            order.append(some)
    return _ordered(joined(parts), torch.cat(order))


def _from_located(a: Tensor, source: Operator, known: Located, graphs: list[Graph], wanted: int, left: bool) -> Modes:
    n, m = a.shape[-1], min(wanted + 1, a.shape[-1] - 1)
    counts = wanted + cuts_pair(known.values, wanted).long()
    beyond = torch.arange(m, device=a.device) >= counts[:, None]
    values = known.values[:, :m].masked_fill(beyond, torch.nan)
    chains = Dense(a)
    sides = []
    for transposed in (False, True) if left else (False,):
        basis = a.new_zeros(len(a), n, m)
        if known.vectors is not None:
            vectors = known.vectors
            if transposed:
                q, r = torch.linalg.qr(vectors)
                vectors = torch.linalg.solve_triangular(r, q.mH, upper=True).mH
                vectors = (vectors / torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)).nan_to_num(nan=0.0)
            basis = lifted(real_basis(known.values[:, :m], vectors[..., :m]))
        sides.append(measured(chains, values, basis, transposed, ALLOWED))
    bound = error_bound(values, known.values, known.distance)
    modes = Modes(values, sides[0], sides[1] if left else None, bound, bound <= ERROR, n, "eigenvalues")
    for i in torch.stack([~side.sound for side in sides]).any(0).nonzero()[:, 0].tolist():
        possible = source.support().expand(source.shape)[i].cpu().numpy()
        ordered, recurrent = in_order(graphs[i], possible)
        repaired = _by_schur(chains.index(slice(i, i + 1)), a[i], ordered, recurrent, wanted, m, left, bound[i : i + 1])
        again = error_bound(repaired.values, known.values[i : i + 1], known.distance[i : i + 1])
        modes.put(torch.tensor([i], device=a.device), _with(repaired, again))
    return _certified(modes)


def _by_schur(
    one: Operator,
    a: Tensor,
    ordered: list[np.ndarray],
    recurrent: list[bool],
    wanted: int,
    m: int,
    left: bool,
    bound: Tensor,
) -> Modes:
    """A head (1, N, N) from its Schur form, m wide."""
    form = chain_schur(a.cpu().numpy(), ordered, recurrent)
    chosen = form.leading(wanted)
    values = a.new_full((1, m), torch.nan).to(torch.complex128)
    sides = []
    for back in (False, True) if left else (False,):
        moved = form.moved(chosen, back)
        blocks = moved.values[::-1][: len(chosen)] if back else moved.values[1 : 1 + len(chosen)]
        own = [w for v in blocks for w in ([v, v.conjugate()] if v.imag else [v])][:m]
        rows = moved.rows[::-1][: len(own)] if back else moved.rows[1 : 1 + len(own)]
        mine = torch.full_like(values, torch.nan)
        # blocks that change places may change their values, where these are ill-conditioned: in order, whatever that
        # costs the subspaces, which are measured
        found = within_circle(torch.tensor(own, dtype=torch.complex128))[None]
        order = by_modulus(found)[0]
        mine[0, : len(own)] = found[0, order].to(values)
        values = values if back else mine
        basis = a.new_zeros(1, len(a), m)
        basis[0, :, : len(own)] = torch.from_numpy(rows.T.copy())[:, order].to(a)
        sides.append(measured(one, mine, basis, back, ALLOWED))
    return Modes(values, sides[0], sides[1] if left else None, bound, bound <= ERROR, len(a), "eigenvalues")


# ---- Krylov spaces


def _krylov(group: Operator, source: Operator, wanted: int, left: bool, seed: int) -> Modes:
    sides, all_values, applies, most = [], [], 0, 0
    certain = torch.ones(group.shape[0], dtype=torch.bool, device=group.device)
    tolerance = max(ALLOWED, 10 * TOLERANCE[group.dtype])
    for transposed in (False, True) if left else (False,):
        basis, counts, condition, spent = slow_space(group, wanted, transposed, seed)
        applies += spent + 2
        if len(counts) and not transposed:
            most = int(counts.max())
        values, basis = rayleigh_ritz(group, basis, counts, transposed)
        side = measured(group, values, basis, transposed, tolerance)
        certain &= side.sound & (side.residual.amax(-1) * condition <= ERROR)
        sides.append(side)
        all_values.append(values)
    certain &= (torch.isnan(all_values[0].real) == torch.isnan(all_values[-1].real)).all(-1)
    known = copies_on_circle(source)
    for values in all_values:
        certain &= ~copies_left_out(known, values, start_width(group))
    bound = torch.full((group.shape[0],), torch.inf, dtype=torch.float64, device=group.device)
    modes = Modes(all_values[0], sides[0], sides[1] if left else None, bound, certain, applies, "arnoldi")
    left_over = [head for head, sure in enumerate(certain.tolist()) if not sure]
    if left_over and group.num_tokens > constants.SPECTRUM_STUBBORN:
        small = small_enough(_part(source, sent(group.device, torch.tensor(left_over))[0]))
        left_over = [head for head, one in zip(left_over, small, strict=True) if one]
    if left_over:
        doubted = sent(group.device, torch.tensor(left_over))[0]
        modes.put(doubted, _all(_part(group, doubted), _part(source, doubted), wanted, left))
        return modes
    return replace(modes, told=(most, False))


def _certified(modes: Modes) -> Modes:
    """Certain where the values are and every basis is sound."""
    certain = (modes.bound <= ERROR) & modes.right.sound
    certain = certain if modes.left is None else certain & modes.left.sound
    return Modes(modes.values, modes.right, modes.left, modes.bound, certain, modes.applies, modes.method)
