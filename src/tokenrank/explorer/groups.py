"""Groups of tokens that the walk rarely leaves, and classes that it never leaves, with words for both.

``groups(chain, slow, lambda2)``, ``class_words(classes)`` make ``groups`` and ``classes`` of a ``Chain`` of the page.
"""

from __future__ import annotations

from typing import Any

import torch

from ..chain import AttentionChain
from ..markov import Classes, Metastable, Spectrum, metastable
from ..markov.pcca.state_count import NO_GAP, SLOW

MOST_TOKENS = 5792
"""Beyond so many the mixture is no matrix any more, and groups, which take a hundred applies of it, are left out."""
LARGEST = 8  # groups tried


def groups(chain: AttentionChain, slow: Spectrum, lambda2: float) -> dict[str, Any]:
    """Metastable sets of one chain (N, N), as the page has them.

    Args:
        chain: (N, N).
        slow: its leading eigenvalues; as many groups are tried as last longer than a bounce, and no more than 8.
        lambda2: its |λ2|, for the words where there are no groups.

    Returns:
        ``members`` (increasing tokens of each group, the heaviest first; every token is in the group that it belongs to
        most), ``weights`` (share of the tokens), ``coarse`` (where one bounce leads that starts evenly from the tokens
        of a group, by group; rows sum to one), ``stay`` (its diagonal), ``certificate`` ("checked" or "uncertain":
        nothing is proved of subspaces) and ``note``. Of these tokens, not of memberships, since that is what a reader
        can walk from. Without members where they were not looked for; one group of all tokens where there is
        no structure to be found. The note says why.
    """
    n = chain.num_tokens
    if n > MOST_TOKENS:
        note = f"Left out: {n:,} tokens; groups are looked for up to {MOST_TOKENS:,}."
        return {"members": [], "weights": [], "stay": [], "coarse": [], "certificate": "uncertain", "note": note}
    lasting = int((slow.values[..., : int(slow.count)].abs() >= SLOW).sum())  # others are no groups: see ``metastable``
    found = metastable(chain.operator, None, max(2, min(LARGEST, lasting)))
    inside = torch.nn.functional.one_hot(found.labels, int(found.count)).double()
    inside = inside[:, inside.any(0)]  # a group may hold a part of many tokens, and most of none
    count, sizes = inside.shape[1], inside.sum(0)
    coarse = inside.mT @ chain.operator.matmul(inside) / sizes[:, None]
    uncertain = bool(found.certificate.uncertain)
    return {
        "members": [side.nonzero()[:, 0].tolist() for side in inside.mT],
        "weights": (sizes / n).tolist(),
        "stay": coarse.diagonal().tolist(),
        "coarse": coarse.tolist(),
        "certificate": "uncertain" if uncertain else "checked",
        "note": _doubt(found) if uncertain else "" if count > 1 else _none(n, lambda2),
    }


def class_words(found: Classes, causal: bool = False) -> dict[str, Any]:
    """Communicating classes of one chain, exact from where steps are possible, and a sentence about them.

    Args:
        found: ``chain.classes()`` of one chain.
        causal: whether no token sees a later one.

    Returns:
        ``recurrent`` (tokens of every class that is never left), ``transient`` (tokens that the walk leaves for good),
        ``absorbing`` (tokens that are never left), ``note``.
    """
    kept = found.recurrent[found.valid].nonzero()[:, 0].tolist()
    members = [found.members(number).tolist() for number in kept]
    transient = (~found.recurrent_tokens).nonzero()[:, 0].tolist()
    periods = [int(found.period[number]) for number in kept]
    return {
        "recurrent": members,
        "transient": transient,
        "absorbing": [tokens[0] for tokens in members if len(tokens) == 1],
        "note": _class_note(members, transient, periods, causal),
    }


def _class_note(members: list[list[int]], transient: list[int], periods: list[int], causal: bool) -> str:
    if len(members[0]) == 1 and not transient and len(members) == 1:
        return "There is one token, and the walk stays there."
    if len(members) == 1 and not transient:
        walk = "one class: from every token the walk can reach every other"
        turning = f", in turns of period {periods[0]}" if periods[0] > 1 else ""
        return f"All {len(members[0]):,} tokens are {walk}{turning}."
    if causal and members == [[0]]:
        return "The first token absorbs: no token sees a later one, so that every walk ends there."
    if len(members) == 1 and len(members[0]) == 1:
        return f"Token {members[0][0]} absorbs: it is never left, and every walk ends there."
    one = len(transient) == 1
    left = f"{len(transient):,} transient {'token is' if one else 'tokens are'} left for good"
    if len(members) == 1:
        return f"One class of {len(members[0]):,} tokens is never left; {left}."
    absorbing = sum(len(tokens) == 1 for tokens in members)
    single = f", {absorbing:,} of a single absorbing token" if absorbing else ""
    ends = f"{len(members):,} classes that are never left{single}: where the walk ends depends on where it begins."
    return f"{ends} {left}." if transient else ends


def _none(n: int, lambda2: float) -> str:
    if n < 3:
        return "No groups: too few tokens."
    if lambda2 < SLOW:
        return f"No groups: |λ2| is {lambda2:.2f}, so that less than half of any difference outlasts a bounce."
    return f"No groups: no split into 2 to {min(n, LARGEST)} is crisp, set apart by a gap, and stayed in."


def _doubt(found: Metastable) -> str:
    if float(found.gap) <= NO_GAP:
        return "Uncertain: no gap in the spectrum sets these groups apart; others fit as well."
    if not bool(found.certificate.converged):
        return "Uncertain: the search for crisp groups did not settle."
    residual = float(found.certificate.residual)
    return (
        f"Uncertain: the gap that sets these groups apart, {float(found.gap):.1e}, is too small for what is known of "
        f"the eigenvalues (residual {residual:.1e}); others may fit as well."
    )
