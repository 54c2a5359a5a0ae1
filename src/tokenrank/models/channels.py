"""Attention whose states are channels, not tokens: XCiT, DaViT, EdgeNeXt."""

from __future__ import annotations

from torch import nn

from ..errors import LayoutError
from ..recording import AttentionRecord


def refuse_channels(record: AttentionRecord, model: nn.Module) -> None:
    """Raise where a square record has one row a channel.

    Heads times rows is then the width of the module's projections, which otherwise is heads times the
    length of a query. Where both are, shapes cannot tell, and the record counts as one of tokens.

    Raises:
        LayoutError: it is attention over channels.
    """
    if record.q is None or len(record.shape) < 3:
        return
    widths = _widths(model, record.name)
    heads, rows, length = record.shape[-3], record.shape[-1], record.q.shape[-1]
    if heads * rows in widths and heads * length not in widths:
        raise LayoutError(
            f"the attention of {record.name!r} is over {rows} channels a head ({heads} × {rows} = {heads * rows}, the "
            f"width of its projections), expected tokens; leave it out with layers=, or take the chain of its channels "
            "with trace.layout = False"
        )


def _widths(model: nn.Module, name: str) -> set[int]:
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return set()
    found = (getattr(child, "in_features", getattr(child, "in_channels", None)) for child in module.children())
    return {width for width in found if isinstance(width, int)}
