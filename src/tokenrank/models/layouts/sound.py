"""Sounds: which tokens are their frames, which only fill up the model's window, and how long each of them is."""

from __future__ import annotations

import math
from functools import reduce
from operator import mul

from torch import nn

from ...layout import TokenLayout
from ..sound import SoundSettings
from .parts import Inputs, shape, whole_numbers

_ARGUMENTS = ("input_features", "input_values")
_EDGES = 2  # frames that convolutions without padding lose at the ends


def sound_layout(
    model: nn.Module, num_tokens: int, inputs: Inputs, sounds: SoundSettings | None = None
) -> TokenLayout | None:
    """The layout of an attention over the frames of one sound: spans "audio" and "padding".

    The convolutions in time of the model (``Conv1d``) say how many columns of its input become one frame. Padding is
    what ``attention_mask`` leaves out, where it has one entry a column; without a mask all frames count as sound.

    Args:
        model: the module that ran.
        num_tokens: N.
        inputs: of its forward; see ``Evidence.inputs``.
        sounds: how the sound was prepared, which says how long a frame is; without it frames have no seconds.

    Returns:
        None where there is no sound, or N is not the number of its frames.
    """
    found = shape(inputs, *_ARGUMENTS)
    if found is None or not 2 <= len(found) <= 3:
        return None
    stride = reduce(mul, (m.stride[0] for m in model.modules() if isinstance(m, nn.Conv1d)), 1)
    lost = _EDGES if stride > 1 else 0
    fitting = [n for n in found[1:] if 0 <= math.ceil(n / stride) - num_tokens <= lost]
    if len(fitting) != 1:  # of (B, bands, columns) or (B, columns, bands), one is time
        return None
    columns = fitting[0]
    frames = num_tokens
    mask = whole_numbers(inputs, "attention_mask")
    if mask is not None and mask.ndim == 2 and mask.shape[-1] == columns:
        longest = int(mask.sum(-1).max())
        frames = min(num_tokens, max(1, math.ceil(longest / stride)))
    spans = {"audio": frames, "padding": num_tokens - frames}
    if sounds is None:
        return TokenLayout(spans)
    return TokenLayout(spans, seconds={"audio": (0.0, stride * sounds.hop / sounds.rate)})
