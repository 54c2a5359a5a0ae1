"""One chain out of several: the layers of a model, an image and a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError
from ..layout import TokenLayout
from ..operators import Bipartite, Kernel, Lazy, Product, Relay, checks
from . import AttentionChain
from .cross import CrossAttention

RESIDUAL = 0.5  # attention rollout: the residual connection counts as much as attention
STEP = 0.1


def compose(chains: Sequence[AttentionChain], residual: float = RESIDUAL) -> AttentionChain:
    """The walk through the layers of a model, from the last down to the first (time-inhomogeneous chain).

    Ã_L Ã_(L−1) … Ã_1 with Ã_l = residual · I + (1 − residual) · A_l: entry (i, j) is the probability that a walk
    from output token i ends at input token j. With residual = ½ and heads averaged first it is attention rollout;
    ``compose(...).bounce("cls")`` is rollout's map of the class token.

    Args:
        chains: in the order in which the layers run, of one shape. Heads are not mixed: aggregate them
            first (``chain.aggregate("uniform")`` for rollout), otherwise head h of a layer goes on in head h of
            the next.
        residual: share of the residual connection, 0 … 1; 0 multiplies the layers as they are.

    Returns:
        A chain of the same shape, lazily: an apply costs one of every layer.

    Raises:
        ChainError: no chains, chains of different shapes or on different devices, or a share beyond 0 … 1.

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers" (2020).

    Example:
        >>> import tokenrank as tr
        >>> layer = tr.AttentionChain([[0.5, 0.5], [0.0, 1.0]])
        >>> tr.compose([layer, layer]).to_dense()
        tensor([[0.5625, 0.4375],
                [0.0000, 1.0000]], dtype=torch.float64)
    """
    chains = list(chains)
    if not chains:
        raise ChainError("no chains given, expected at least one layer")
    if not 0 <= residual <= 1:
        raise ChainError(f"residual = {residual!r}, expected a share from 0 to 1")
    first = chains[0]
    for place, chain in enumerate(chains):
        if chain.shape != first.shape:
            raise ChainError(
                f"layer {place} has shape {tuple(chain.shape)}, expected {tuple(first.shape)} as layer 0; "
                "aggregate heads, or restrict all layers to the same tokens, first"
            )
        if chain.device != first.device:
            raise ChainError(
                f"layer {place} is on {str(chain.device)!r}, expected {str(first.device)!r} as layer 0; capture with "
                'one device= for all layers, such as tr.capture(model, device="cpu")'
            )
    factors = [chain.operator if residual == 0 else Lazy(chain.operator, 1 - residual) for chain in reversed(chains)]
    caption = f"{len(factors)} layers in a row, residual {residual:g}"
    return AttentionChain.from_operator(Product(factors), first.layout, first.picture, caption)


def bipartite(
    self_chain: AttentionChain,
    cross: CrossAttention | Tensor | np.ndarray,
    step: float = STEP,
    how: Literal["absorb", "relay"] = "absorb",
    back: Tensor | np.ndarray | None = None,
    text: Sequence[str] | None = None,
) -> AttentionChain:
    """Cross-attention made a chain: image tokens walk by self-attention and step over to text tokens.

    The rectangular matrix of cross-attention is no chain by itself. Two that contain it:

    - "absorb": N + M tokens, [[(1 − p) A, p C], [0, I]]. At every bounce the walk crosses over with probability p
      and stays there; ``chain.absorption("text")`` then is the probability of every image token to end in each text
      token: a soft segmentation that follows self-attention for 1/p bounces on average.
    - "relay": image → text → image in one step, C R: N tokens, a square alternative that image tokens
      share through the words they attend to; A is not used.

    Args:
        self_chain: A, (*batch, N, N), of the image tokens.
        cross: C, (*batch, N, M), rows of image queries over text keys, summing to one: cross-attention weights. Or
            ``trace.cross(name)``, which is turned round (its columns divided by their sums) where its columns are the
            tokens of the chain, as in decoders of speech, whose words attend to frames.
        step: p, probability of crossing over at a bounce, above 0 and at most 1 ("absorb").
        how: "absorb" or "relay".
        back: R, (*batch, M, N), rows summing to one ("relay"); by default the reversed step
            R[j, i] = C[i, j] / Σ_k C[k, j], from a text token to the image tokens that attend to it.
        text: the M token strings, for the layout.

    Returns:
        A chain over image and text tokens (span "text" last), or over the image tokens ("relay").

    Raises:
        ChainError: shapes that do not fit, rows that do not sum to one, a step beyond (0, 1], or for "relay" a
            text token that no image token attends to, by number.

    Example:
        >>> import torch
        >>> import tokenrank as tr
        >>> image = tr.AttentionChain([[0.5, 0.5], [0.5, 0.5]])
        >>> joint = tr.bipartite(image, torch.tensor([[1.0, 0.0], [0.5, 0.5]]), text=["cat", "mat"])
        >>> joint.absorption("text").values[:2]
        tensor([[0.7750, 0.2250],
                [0.7250, 0.2750]], dtype=torch.float64)
    """
    if isinstance(cross, CrossAttention):
        cross, text = _towards(cross, self_chain, text)
    c = _rectangular("cross", cross)
    n, m = c.shape[-2:]
    if n != self_chain.num_tokens:
        raise ChainError(
            f"cross has shape {tuple(c.shape)} for a chain of {self_chain.num_tokens} tokens, expected "
            f"(…, {self_chain.num_tokens}, M): one row a token of the chain; transpose it, or restrict the chain "
            "to the image"
        )
    c = _expanded("cross", c, self_chain.batch).to(self_chain.device)
    if text is not None and len(text) != m:
        raise ChainError(f"{len(text)} text tokens for {m} columns of cross, expected one string a column")
    if how == "absorb":
        if not 0 < step <= 1:
            raise ChainError(f"step = {step!r}, expected a probability above 0 and at most 1")
        if back is not None:
            raise ChainError("back is for how='relay'; with how='absorb' the walk stays in the text")
        operator = Bipartite(self_chain.operator, Kernel(c), float(step))
        return AttentionChain.from_operator(operator, _joint_layout(self_chain.layout, n, m, text))
    if how != "relay":
        raise ChainError(f"how = {how!r}, expected 'absorb' or 'relay'")
    r = _reversed(c, text) if back is None else _expanded("back", _rectangular("back", back), self_chain.batch)
    if tuple(r.shape[-2:]) != (m, n):
        raise ChainError(f"back has shape {tuple(r.shape)}, expected (…, {m}, {n}): from text tokens to image tokens")
    return AttentionChain.from_operator(Relay(Kernel(c), Kernel(r.to(c.device))), self_chain.layout)


def _towards(
    cross: CrossAttention, chain: AttentionChain, text: Sequence[str] | None
) -> tuple[Tensor, Sequence[str] | None]:
    """The weights from the tokens of ``chain`` to the others, and the strings of these."""
    n, (rows, columns) = chain.num_tokens, cross.shape[-2:]
    if rows == columns == n and cross.rows != cross.columns and chain.layout in (cross.rows, cross.columns):
        turn = chain.layout == cross.columns
    elif rows == columns == n:
        raise ChainError(
            f"the cross-attention is {rows} × {columns}, and which side is the chain's {n} tokens no layout says; give "
            "cross.weights or cross.turned().weights"
        )
    else:
        turn = columns == n
    from_chain = cross.turned() if turn else cross
    names = None if from_chain.columns is None else from_chain.columns.tokens
    return from_chain.weights, names if text is None else text


def _rectangular(name: str, weights: Tensor | np.ndarray) -> Tensor:
    found = weights.detach() if isinstance(weights, Tensor) else torch.as_tensor(np.asarray(weights))
    if found.ndim < 2:
        raise ChainError(f"{name} has shape {tuple(found.shape)}, expected (…, rows, columns)")
    return checks.distributions(found)


def _expanded(name: str, weights: Tensor, batch: torch.Size) -> Tensor:
    try:
        return weights.expand(*batch, *weights.shape[-2:])
    except RuntimeError:
        raise ChainError(
            f"{name} has leading dimensions {tuple(weights.shape[:-2])}, expected ones that broadcast to "
            f"{tuple(batch)}; aggregate the heads of both, or of neither"
        ) from None


def _reversed(c: Tensor, text: Sequence[str] | None) -> Tensor:
    """R[j, i] = C[i, j] / Σ_k C[k, j] in float64."""
    sums = c.double().sum(-2)
    if not (sums > 0).all():
        missing = sorted({int(i[-1]) for i in (~(sums > 0)).nonzero()})
        named = ", ".join(f"{j}" if text is None else f"{j} ({text[j]!r})" for j in missing[:5])
        raise ChainError(
            f"text token {named}{' …' if len(missing) > 5 else ''} is attended to by no image token, so that the walk "
            "cannot come back from it; drop such columns of cross (padding?) and renormalise its rows, or give back"
        )
    return c.double().mT / sums[..., None]


def _joint_layout(layout: TokenLayout | None, n: int, m: int, text: Sequence[str] | None) -> TokenLayout:
    if layout is None:
        spans, grids, tokens = {"image": n}, {}, None
    else:
        spans, grids, tokens = dict(layout.spans), dict(layout.grids), layout.tokens
    if "text" in spans:
        raise ChainError("the chain's layout has a span 'text' already; restrict the chain to the image tokens first")
    strings = None if text is None and tokens is None else (*(tokens or [""] * n), *(text or [""] * m))
    special = () if layout is None else layout.special
    order = None if layout is None or layout.order is None else (*layout.order, *range(n, n + m))
    seconds = {} if layout is None else layout.seconds
    return TokenLayout(spans | {"text": m}, grids, strings, special, order, seconds)
