"""Connected parts of a mask, for masks at any resolution; the methods to compare with use the same ones."""

from __future__ import annotations

from ..baselines.components import component_of, largest_component, seed_of

__all__ = ["component_of", "largest_component", "seed_of"]
