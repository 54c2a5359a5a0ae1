"""Perturbed attention, as acts: identity (PAG), smooth (SEG), shuffle (TPG), over the picture's tokens and no others.

In joint attention of picture and text the rows of the text stay as they are. The rows of the picture are perturbed
towards the picture and keep what they attend to of the text, as Perturbed-Attention Guidance does it in Stable
Diffusion 3:

- "identity" (Ahn et al. 2024): a token of the picture sees itself and no other one of the picture. In self-attention
  the map is the identity; in joint attention the softmax is taken over the token itself and the text.
- "smooth" (Hong 2024): queries of the picture are blurred over its grid. Logits are linear in the queries, so that
  this blurs the rows of logits, after positions were added to the queries; with an infinite sigma every token of the
  picture asks the same.
- "shuffle" (Rajabi et al. 2025): queries of the picture change places at random, so that each token gets what another
  one attended to. Attention does not know an order of its keys: shuffling all tokens before it is this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...recording import Act, Caller, FusedCall
from .blur import smoothing
from .layers import Place


class Perturbation(Act):
    """What is done to the attention of one layer; see the module.

    Args:
        kind: "identity", "smooth" or "shuffle".
        place: number of tokens → where the picture is among them.
        batch: samples in the call.
        heads: numbers of the heads to perturb; all where None.
        kernel_sigma: of "smooth": width of the kernel, standard deviation, both in tokens.
        order: of "shuffle": number of tokens → places that queries are taken from.

    Raises:
        IndexError: no such head.
    """

    def __init__(
        self,
        kind: str,
        place: Callable[[int], Place],
        batch: int,
        heads: Sequence[int] | None = None,
        kernel_sigma: tuple[int, float] | None = None,
        order: Callable[[int], Tensor] | None = None,
    ) -> None:
        self._kind, self._place, self._batch, self._heads = kind, place, batch, heads
        self._blur, self._order = kernel_sigma, order
        self.acted = False

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        """The call with other queries, or with a mask; one to other tokens, such as an IP-Adapter's, as it is."""
        if call.shape[-2] != call.shape[-1]:
            return call
        self.acted = True
        place = self._place(call.key.shape[-2])
        if self._kind == "identity":
            hidden = _others(place, call.shape[-2], call.shape[-1], call.query.device)
            return call.hiding(hidden if self._heads is None else self._of_heads(hidden, call.shape[-3]))
        return replace(call, query=self._changed(call.query, place))

    def logits(self, caller: Caller, logits: Tensor) -> Tensor:
        """The same of attention written by hand: (B · H, N, M) or (B, H, N, M)."""
        if logits.shape[-2] != logits.shape[-1]:
            return logits
        self.acted = True
        place = self._place(logits.shape[-1])
        several = logits.reshape(self._batch, -1, *logits.shape[-2:])
        if self._kind == "identity":
            hidden = _others(place, logits.shape[-2], logits.shape[-1], logits.device)
            if self._heads is not None:
                hidden = self._of_heads(hidden, several.shape[1])
            changed = several.masked_fill(hidden, -torch.inf)
        else:
            changed = self._changed(several, place)
        return changed.reshape(logits.shape)

    def _changed(self, rows: Tensor, place: Place) -> Tensor:
        """Queries or logits (B, H, N, …) whose rows of the picture were blurred or shuffled."""
        picture = rows[..., place.tokens, :]
        if self._kind == "smooth":
            assert self._blur is not None
            down, across = (smoothing(n, *self._blur).to(rows) for n in place.grid)
            cells = picture.unflatten(-2, place.grid)
            new = torch.einsum("ir,jc,...rcd->...ijd", down, across, cells).flatten(-3, -2)
        else:
            assert self._order is not None
            new = picture[..., self._order(place.count).to(rows.device), :]
        out = rows.clone()
        if self._heads is None:
            out[..., place.tokens, :] = new
        else:
            heads = torch.tensor(list(self._heads), device=rows.device)
            out[..., heads[:, None], torch.arange(rows.shape[-2], device=rows.device)[place.tokens], :] = new[
                ..., heads, :, :
            ]
        return out

    def _of_heads(self, hidden: Tensor, count: int) -> Tensor:
        chosen = torch.zeros(count, dtype=torch.bool, device=hidden.device)
        assert self._heads is not None
        chosen[list(self._heads)] = True
        return hidden & chosen[:, None, None]


def _others(place: Place, rows: int, columns: int, device: torch.device) -> Tensor:
    """Where a token of the picture would see another one, bool (rows, columns)."""
    hidden = torch.zeros(rows, columns, dtype=torch.bool, device=device)
    hidden[place.tokens, place.tokens] = True
    hidden.fill_diagonal_(False)
    return hidden
