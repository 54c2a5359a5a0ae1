"""Guidance by the attention of the model itself: degraded where it looks, perturbed in how it looks."""

from .guide import Guidance, guide

__all__ = ["Guidance", "guide"]
