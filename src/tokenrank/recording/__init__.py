"""Seeing every softmax attention of a running PyTorch model, without touching the model."""

from .evidence import Evidence
from .keep import HeadSelection
from .record import BRANCHES, AttentionKind, AttentionRecord, Branch, Forward
from .recorder import Recorder
from .selection import LayerSelection, StepSelection, matches_name

__all__ = [
    "BRANCHES",
    "AttentionKind",
    "AttentionRecord",
    "Branch",
    "Evidence",
    "Forward",
    "HeadSelection",
    "LayerSelection",
    "Recorder",
    "StepSelection",
    "matches_name",
]
