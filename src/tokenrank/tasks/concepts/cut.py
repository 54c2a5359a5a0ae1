"""From maps to what each word may claim: soft-max over words, and the random walk's normalised cut."""

from __future__ import annotations

import torch
from torch import Tensor

from ...chain import AttentionChain
from ...errors import InputError
from ...operators import Operator

EVERY = 256  # patches up to which every nested set is tried, otherwise as many, evenly spaced
COLUMNS = 128  # sets in one product


def softmaxed(maps: Tensor) -> Tensor:
    """The share of each word in every patch, (W, rows, columns): the soft-max over words of the maps' logarithms.

    Of maps that are distributions over patches this is Bayes' rule, each word as likely as another. A patch that no
    word reaches belongs to all evenly.

    Raises:
        InputError: one word alone.
    """
    if len(maps) < 2:
        raise InputError("cut='softmax' with one word gives it everything, expected two words at least, or cut='mean'")
    total = maps.sum(0, keepdim=True)
    return torch.where(total > 0, maps / total.clamp(min=torch.finfo(maps.dtype).tiny), 1 / len(maps))


def ncut_thresholds(chain: AttentionChain, maps: Tensor) -> tuple[float, ...]:
    """The value above which a patch belongs to each word, by the best normalised cut of the picture's walk.

    The sets {patch : map > t} are nested; of these the one is taken whose normalised cut

        P(leaves S | in S) + P(enters S | outside)

    is least, of the walk on the picture with its stationary distribution (that with α = 0.99). One apply for 128 sets.

    Args:
        chain: (P, P), of the picture alone.
        maps: (W, P).

    Source: Meila and Shi, "A random walks view of spectral segmentation" (2001), for the cut of a walk; Andersen, Chung
    and Lang, "Local graph partitioning using PageRank vectors" (2006), for the sweep over nested sets.
    """
    weights = chain.tokenrank().values
    return tuple(_best(chain.operator, weights, one.to(weights)) for one in maps)


def _best(operator: Operator, weights: Tensor, values: Tensor) -> float:
    levels = values.unique()[:-1]  # above the largest is nothing
    if not len(levels):
        return float(values.max())  # a constant map claims nothing
    if len(levels) > EVERY:
        levels = levels[torch.linspace(0, len(levels) - 1, EVERY).round().long().to(levels.device)]
    inside = values[:, None] > levels
    cuts = torch.cat([normalised_cut(operator, weights, part) for part in inside.split(COLUMNS, -1)])
    return float(levels[cuts.argmin()])


def normalised_cut(operator: Operator, weights: Tensor, inside: Tensor) -> Tensor:
    """P(leaves S | in S) + P(enters S | outside) of several sets, (T,): neither empty nor everything.

    Args:
        operator: A, (P, P).
        weights: of the patches, a distribution (P,).
        inside: bool (P, T).
    """
    member = inside.to(operator.dtype)
    arrives = operator.matmul(member).double()
    member, weights = member.double(), weights.double()[:, None]
    held, within = (weights * member).sum(0), (weights * member * arrives).sum(0)
    entering = (weights * (1 - member) * arrives).sum(0)
    rest = weights.sum() - held
    return (held - within) / held + entering / rest
