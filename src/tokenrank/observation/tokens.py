"""Which tokens of a layer stay where nothing is said, in words, too; and what to say where it is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from ..chain import AttentionChain
from ..errors import LayoutError
from ..layout import TokenLayout
from ..models import Modality
from .layers import SOUND, has_picture, has_sound


def default_tokens(chain: AttentionChain, modality: Modality, layer: str) -> str:
    """The span that stays, or "all": patches of a picture, frames of a sound, all but special tokens of a text.

    Args:
        chain: of the layer.
        modality: of the whole observation.
        layer: its name, for errors.

    Raises:
        LayoutError: it is unknown which tokens are the picture.
    """
    layout = chain.layout
    if modality == "text":
        return "content" if layout is not None and layout.indices("content") else "all"
    if modality == "audio" and (layout is None or not has_picture(layout)):
        return SOUND if has_sound(layout) else "all"
    if layout is None:
        raise unknown_layout(layer, chain.num_tokens)
    return layout.picture


def unknown_layout(layer: str, count: int) -> LayoutError:
    """The error of a layer that does not know its tokens, with its cure."""
    return LayoutError(
        f"which of the {count} tokens of {layer!r} are the picture is unknown; look at all of them with "
        "tokens='all' (--tokens all), or give the layout: tr.observe(…, "
        "layout=tr.TokenLayout.image(rows, columns)), with cls_tokens=0 where there is no CLS"
    )


def rows_of(kept: Sequence[int] | None, layout: TokenLayout | None, count: int) -> list[int]:
    """Tokens that stay in the order of their layout, pictures row by row, as chains have them (``arranged``).

    Args:
        kept: indices, None for all.
        layout: None where it is not known; then as the model keeps them.
        count: N.
    """
    stay = set(range(count) if kept is None else kept)
    order = range(count) if layout is None or layout.order is None else layout.order
    return [i for i in order if i in stay]


def tokens_words(tokens: str | Sequence[int] | Sequence[str]) -> str:
    """ "image", "cls+image", "12 chosen"."""
    if isinstance(tokens, str):
        return tokens
    return "+".join(map(str, tokens)) if all(isinstance(span, str) for span in tokens) else f"{len(tokens)} chosen"
