"""Faithfulness by masking: what a model answers when the tokens that a map calls important are gone."""

from .run import mask_pixels, mask_tokens, removal_order, removed_count

__all__ = ["mask_pixels", "mask_tokens", "removal_order", "removed_count"]
