"""What one layer attended to in a pass that the pipeline makes anyway: a look that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ...attention_mask import allowed
from ...errors import CaptureError, InputError
from ...recording import Act, Caller, FusedCall
from .layers import Place
from .masks import mask_of

_AT_ONCE = 2**26
"""Numbers of attention weights that are held at once; more are taken head by head."""


class Look(Act):
    """Keeps the attention of one layer, as it ran, the first where it runs several.

    Args:
        square: whether it has as many queries as keys; others, such as an IP-Adapter's, are passed over.
    """

    def __init__(self, square: bool = True) -> None:
        self._square = square
        self.call: FusedCall | None = None
        self.written: Tensor | None = None

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        """Keep the call; it runs untouched."""
        if self.call is None and (call.shape[-2] == call.shape[-1] or not self._square):
            self.call = call
        return call

    def used(self, caller: Caller, weights: Tensor) -> None:
        """Keep weights that were written by hand."""
        if self.written is None and (weights.shape[-2] == weights.shape[-1] or not self._square):
            self.written = weights

    @property
    def tokens(self) -> int:
        """Of the keys.

        Raises:
            CaptureError: no attention was seen.
        """
        seen = self.call.key if self.call is not None else None
        if seen is not None:
            return seen.shape[-2]
        if self.written is None:
            raise CaptureError(
                "a layer that guidance looks at ran without attention that can be seen; an attention backend of its "
                "own hides it: call pipe.transformer.set_attention_backend('native'), and give up quantised attention"
            )
        return self.written.shape[-1]


def mask_of_layers(
    looks: Mapping[str, Look],
    places: Mapping[str, Place],
    samples: slice,
    batch: int,
    name: str,
    generator: torch.Generator,
    word: Callable[[str], Tensor] | None = None,
) -> Tensor:
    """The mask ``name`` of the mean over layers, (B, 1, rows, columns) bool.

    Args:
        looks: name of a layer → what it attended to.
        places: name of each layer that counts → where the picture is among its keys.
        samples: of the batch.
        batch: samples in the whole call.
        name: of the mask, see ``mask_of``.
        generator: of "random".
        word: name of a layer → the map of the word in it, (B, N); for "word:…" alone.

    Raises:
        InputError: layers of several grids.
    """
    grids = {place.grid for place in places.values()}
    if len(grids) > 1:
        listed = ", ".join(f"{layer} {p.grid[0]} × {p.grid[1]}" for layer, p in list(places.items())[:4])
        raise InputError(f"layers have {len(grids)} grids ({listed}), expected layers of one grid for one mask")
    weights = torch.stack([mean_over(looks[layer], place, samples, batch) for layer, place in places.items()]).mean(0)
    spoken = None if word is None else torch.stack([word(layer) for layer in places]).mean(0)
    return mask_of(weights, name, generator, spoken).reshape(-1, 1, *grids.pop())


def heads_over(look: Look, place: Place, samples: slice, batch: int) -> Tensor:
    """Attention of the picture to itself, (B, H, N, N): its rows over the picture alone, summing to one."""
    return torch.stack(list(_each_head(look, place, samples, batch)), 1)


def mean_over(look: Look, place: Place, samples: slice, batch: int) -> Tensor:
    """The mean over heads of the same, (B, N, N) in float32, held for one head at a time where it is large.

    Args:
        look: what a layer attended to.
        place: of the picture among its keys.
        samples: of the batch.
        batch: samples in the whole call.
    """
    if look.call is not None:
        query, key = (_picture(tensor, place, samples) for tensor in (look.call.query, look.call.key))
        if look.call.mask is None and query.shape[:-1].numel() * key.shape[-2] <= _AT_ONCE and _alike(query, key):
            return torch.softmax((query.float() @ key.float().mT) * look.call.scale, -1).mean(1)
    mean: Tensor | None = None
    count = 0
    for weights in _each_head(look, place, samples, batch):
        mean = weights if mean is None else mean.add_(weights)
        count += 1
    assert mean is not None
    return mean / count


def towards(look: Look, place: Place | None, samples: slice, batch: int, tokens: list[int]) -> Tensor:
    """How much every token of the picture attends to some tokens of the text, (B, N), mean over heads.

    Args:
        look: at joint attention, or at cross-attention.
        place: of the picture among the keys; None in cross-attention, whose rows are all the picture.
        samples: of the batch.
        batch: samples in the whole call.
        tokens: indices of the text tokens among the keys.
    """
    rows = slice(None) if place is None else place.tokens
    if look.written is not None:
        several = look.written.reshape(batch, -1, *look.written.shape[-2:])[samples]
        return several[..., rows, :].float()[..., tokens].sum(-1).mean(1)
    assert look.call is not None
    found: Tensor | None = None
    query, key = look.call.query[samples], _shared(look.call.key[samples], look.call.query)
    for head in range(query.shape[1]):
        logits = (query[:, head, rows].float() @ key[:, head].float().mT) * look.call.scale
        logits = _masked(logits, look.call.mask, samples, head, rows, slice(None))
        share = torch.softmax(logits, -1)[..., tokens].sum(-1)
        found = share if found is None else found + share
    assert found is not None
    return found / query.shape[1]


def _each_head(look: Look, place: Place, samples: slice, batch: int) -> Iterator[Tensor]:
    if look.written is not None:
        several = look.written.reshape(batch, -1, *look.written.shape[-2:])[samples]
        for head in range(several.shape[1]):
            part = several[:, head, place.tokens, place.tokens].float()
            yield part / part.sum(-1, keepdim=True)
        return
    assert look.call is not None
    call = look.call
    query, key = (_picture(t, place, samples) for t in (call.query, _shared(call.key, call.query)))
    for head in range(query.shape[1]):
        logits = (query[:, head].float() @ key[:, head].float().mT) * call.scale
        yield torch.softmax(_masked(logits, call.mask, samples, head, place.tokens, place.tokens), -1)


def _picture(tensor: Tensor, place: Place, samples: slice) -> Tensor:
    return tensor[samples][..., place.tokens, :]


def _alike(query: Tensor, key: Tensor) -> bool:
    return query.shape[1] == key.shape[1]


def _shared(key: Tensor, query: Tensor) -> Tensor:
    return key if key.shape[1] == query.shape[1] else key.repeat_interleave(query.shape[1] // key.shape[1], 1)


def _masked(logits: Tensor, mask: Tensor | None, samples: slice, head: int, rows: slice, columns: slice) -> Tensor:
    """Logits (B, N, M) of one head with the call's mask (…, N, M)."""
    if mask is None:
        return logits
    mask = mask[(None,) * (4 - mask.ndim)]
    mask = mask[samples] if mask.shape[0] > 1 else mask
    mask = mask[:, head if mask.shape[1] > 1 else 0]
    mask = mask[:, rows] if mask.shape[-2] > 1 else mask
    mask = mask[..., columns] if mask.shape[-1] > 1 else mask
    seen = allowed(mask)
    return logits.masked_fill(~seen, -torch.inf) if mask.dtype == torch.bool else logits + mask
