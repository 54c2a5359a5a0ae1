"""Runs that can be interrupted at any moment and go on where they stopped."""

from .run import Run, run
from .work import image_seed, seeded

__all__ = ["Run", "image_seed", "run", "seeded"]
