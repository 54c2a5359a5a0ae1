"""Chains of one input: (heads, N, N), whatever dimensions of length one stand before."""

from __future__ import annotations

from ..chain import AttentionChain
from ..errors import CaptureError
from ..layout import TokenLayout

TAKE_ONE = "take one, with trace.select(sample=0) or trace.select(branch=…)"


def of_one_input(chain: AttentionChain, expected: TokenLayout | None, name: str, cure: str) -> AttentionChain:
    """The chain as (heads, N, N), with a layout where one is known.

    Args:
        chain: of one layer.
        expected: the layout of chains of its size that know none themselves.
        name: of the layer, for the error.
        cure: what to do about several inputs, for the error.

    Raises:
        CaptureError: several inputs, windows or branches.
    """
    operator, layout = chain.operator, chain.layout
    if chain.batch[:-1].numel() != 1:
        raise CaptureError(
            f"the attention of {name!r} has leading dimensions {tuple(chain.batch)}, expected (1, heads) or heads "
            f"alone: several inputs, windows or branches apart; {cure}"
        )
    if len(chain.batch) != 1:
        operator = operator.reshape(chain.batch[-1] if chain.batch else 1)
    if layout is None and expected is not None and expected.num_tokens == chain.num_tokens:
        layout = expected
    return AttentionChain.from_operator(operator, layout)
