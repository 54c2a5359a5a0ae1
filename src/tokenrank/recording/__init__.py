"""Seeing every softmax attention of a running PyTorch model, without touching the model."""

from .evidence import Evidence
from .forward import Forward
from .guidance import BRANCHES, Branch
from .keep import Heads
from .record import AttentionRecord, Kind
from .recorder import Recorder
from .selection import Layers, Steps, matches_name

__all__ = [
    "BRANCHES",
    "AttentionRecord",
    "Branch",
    "Evidence",
    "Forward",
    "Heads",
    "Kind",
    "Layers",
    "Recorder",
    "Steps",
    "matches_name",
]
