"""Number of metastable states: minChi, crispness and gap of every count, and the rule that chooses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..certificate import Batched
from .pcca import Pcca

FEASIBLE = -0.1  # minChi from which the tokens count as lying in a simplex
CRISP = 0.5  # crispness above which tokens rather belong to their state than not
SLOW = 0.5  # |λ_m| from which states outlast a bounce: half of what tells them apart is left
TIE = 1e-3  # differences of crispness that do not decide
NO_GAP = 1e-8  # eigenvalues closer than this are not separated

STAYED = 0.5  # probability of staying in each state from which it is one, and no stage of a cycle

Found = tuple[Tensor, Pcca, Tensor]  # heads (c,) of a flat batch, PCCA+ of these, and the chains between states


@dataclass(frozen=True)
class Candidates(Batched):
    """What every number of states would give; NaN where it cuts a conjugate pair.

    Attributes:
        counts: m = 2, 3, …, int64 (C,).
        minchi: smallest membership of the inner simplex, (*batch, C): 0 where it holds all tokens.
        crispness: of the optimised memberships, (*batch, C), 1/m … 1.
        gap: |λ_m| − |λ_{m+1}|, (*batch, C).
        stays: smallest probability of staying in a state for a bounce, (*batch, C): the diagonal of the coarse chain.
        eligible: bool (*batch, C): may be chosen; the rule is in ``metastable``.
    """

    WHOLE = frozenset({"counts"})

    counts: Tensor
    minchi: Tensor
    crispness: Tensor
    gap: Tensor
    stays: Tensor
    eligible: Tensor

    def reshape(self, *batch: int) -> Candidates:
        """The same with other leading dimensions."""
        wide = (*batch, len(self.counts))
        return Candidates(
            self.counts,
            self.minchi.reshape(wide),
            self.crispness.reshape(wide),
            self.gap.reshape(wide),
            self.stays.reshape(wide),
            self.eligible.reshape(wide),
        )


def gap(moduli: Tensor, m: int) -> Tensor:
    """|λ_m| − |λ_{m+1}| from moduli (h, > m) that end with zeros, (h,)."""
    return (moduli[:, m - 1] - moduli[:, m]).clamp(min=0)


def candidates(found: dict[int, Found], most: int, moduli: Tensor, n: int) -> Candidates:
    """The table over m = 2 … ``most`` for h heads of n tokens.

    ``found`` has no entry for an m that cuts a pair in every head; ``moduli`` as for ``gap``.
    """
    heads, device = len(moduli), moduli.device
    counts = torch.arange(2, most + 1, device=device)
    minchi, crispness, gaps, stays = moduli.new_full((4, heads, len(counts)), torch.nan).unbind()
    eligible = torch.zeros(heads, len(counts), dtype=torch.bool, device=device)
    for column, m in enumerate(counts.tolist()):
        if m not in found:
            continue
        chosen, answer, coarse = found[m]
        minchi[chosen, column], crispness[chosen, column] = answer.minchi, answer.crispness
        gaps[chosen, column] = gap(moduli, m)[chosen]
        stays[chosen, column] = coarse.diagonal(dim1=-2, dim2=-1).amin(-1)
        labels = answer.memberships.argmax(-1)
        inhabited = (labels[..., None] == torch.arange(m, device=device)).any(-2).all(-1)
        slow = moduli[chosen, m - 1] >= (SLOW if m < n else 1 - NO_GAP)
        eligible[chosen, column] = inhabited & slow
    eligible &= (minchi >= FEASIBLE) & (crispness > CRISP) & (gaps > NO_GAP) & (stays >= STAYED)
    return Candidates(counts, minchi, crispness, gaps, stays, eligible)


def choose(table: Candidates) -> Tensor:
    """m of every head by the rule of ``metastable``, (h,); one where nothing is eligible."""
    if not len(table.counts):
        return torch.ones(len(table.eligible), dtype=torch.long, device=table.eligible.device)
    crispness = table.crispness.where(table.eligible, -torch.inf)
    best = crispness >= crispness.amax(-1, keepdim=True) - TIE
    column = table.gap.where(best & table.eligible, -torch.inf).argmax(-1)
    return table.counts[column].where(table.eligible.any(-1), 1)
