"""Runs that can be interrupted at any moment and go on where they stopped."""

from .engine import Engine, Local
from .run import Run, run
from .seeds import seed_of, seeded

__all__ = ["Engine", "Local", "Run", "run", "seed_of", "seeded"]
