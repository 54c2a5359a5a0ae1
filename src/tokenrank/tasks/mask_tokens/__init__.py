"""Faithfulness by masking: what a model answers when the tokens that a map calls important are gone."""

from .order import removal_order, removed_count
from .run import mask_pixels, mask_tokens

__all__ = ["mask_pixels", "mask_tokens", "removal_order", "removed_count"]
