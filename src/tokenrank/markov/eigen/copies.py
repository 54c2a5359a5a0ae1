"""Copies of eigenvalues: what a Krylov space cannot see of them, and what the classes of a chain say."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...operators import Operator, is_everywhere
from ..engine import constants
from ..engine.transfer import sent
from ..support.irreducible import connected_soon
from .located import classes

SAME = 1e-6  # eigenvalues closer than this count as copies of one


def copies_on_circle(source: Operator) -> Tensor:
    """Eigenvalues of modulus one beside λ1 that each chain has, as its classes say, (h,)."""
    support, heads = source.support(), source.shape[0]
    none = torch.zeros(heads, device=source.device)
    if is_everywhere(support):
        return none
    matrices = support.reshape(-1, *support.shape[-2:])
    if bool(connected_soon(matrices).all() if source.path == "device" else support.all()):
        return none
    ones = [int(graph.period[graph.recurrent].sum()) - 1 for graph in classes(source)]
    return sent(source.device, torch.tensor(ones, dtype=none.dtype))[0]


def copies_left_out(known: Tensor, values: Tensor, width: int) -> Tensor:
    """Heads of which an eigenvalue may be missing that is larger than one of the values (h, m), (h,).

    A Krylov space sees as many copies of an eigenvalue as its start has columns. How many there are on the circle is
    known from the classes: one of each recurrent one, as many as its period. Elsewhere an eigenvalue that was found as
    often as the start has columns may have more.

    Args:
        known: how many there are on the circle, (h,); see ``copies_on_circle``.
        values: what was found after λ1, NaN beyond.
        width: columns of the start.
    """
    given = ~torch.isnan(values.real)
    moduli = values.abs().nan_to_num(nan=0.0)
    smallest = torch.where(given, moduli, torch.inf).amin(-1, keepdim=True)
    on_circle = given & (moduli > 1 - SAME)
    copies = ((values[:, :, None] - values[:, None]).abs() <= SAME).sum(-1)
    several = (copies >= width) & ~on_circle & (moduli > smallest + SAME)
    return several.any(-1) | ((on_circle.sum(-1) < known) & (smallest[:, 0] <= 1 - SAME))


def small_enough(source: Operator) -> list[bool]:
    """Heads of which all eigenvalues can be afforded, each: class by class, where no class is large."""
    heads, n = source.shape[:2]
    if n <= constants.SPECTRUM_STUBBORN:
        return [True] * heads
    if n > constants.SPECTRUM_ROTATED or _every_step_is_possible(source):
        return [False] * heads
    return [bool(np.bincount(graph.labels).max() <= constants.SPECTRUM_STUBBORN) for graph in classes(source)]


def _every_step_is_possible(source: Operator) -> bool:
    support = source.support()
    return is_everywhere(support) or bool(support.all())
