"""What the dotted name of an attention module says: whose part it is, and whether it looks at another sequence."""

from __future__ import annotations

import re

_CROSS = re.compile(r"cross|encoder_attn|EncDecAttention|encoder_decoder_attention|multihead_attn|attn2", re.IGNORECASE)


def is_cross(name: str) -> bool:
    """Whether it is called as attention from one sequence to another is in transformers, diffusers and PyTorch."""
    return _CROSS.search(name) is not None


def in_decoder(name: str) -> bool:
    """Whether it is a part of a decoder."""
    return "decoder" in name.split(".")


def in_encoder(name: str) -> bool:
    """Whether it is a part of an encoder, and of no decoder above that."""
    return "encoder" in name.split(".") and not in_decoder(name)
