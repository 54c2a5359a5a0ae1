"""Observations: one source read by one model, read once, and all that can be asked of it."""

from .denoised import Denoised, Ran
from .features import What
from .observation import Observation
from .spoken import CrossHeads, Word

__all__ = ["CrossHeads", "Denoised", "Observation", "Ran", "What", "Word"]
