"""Runs that can be interrupted at any moment and go on where they stopped."""

from .engine import Engine, Local
from .run import Run, run
from .work import image_seed, seeded

__all__ = ["Engine", "Local", "Run", "image_seed", "run", "seeded"]
