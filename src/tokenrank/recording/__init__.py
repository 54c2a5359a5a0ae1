"""Recording of every softmax attention of a running PyTorch model, and acts on it, without touching the model."""

from .acts import Act, Caller, KeepWeights, KeptAttention, acting
from .block import paused, uncompiled
from .evidence import Evidence
from .fused import FusedCall
from .keep import HeadSelection
from .origins import Lost, Trail
from .record import BRANCHES, AttentionKind, AttentionRecord, Branch, Forward
from .recorder import Recorder
from .selection import LayerSelection, StepSelection, matches_name
from .states import AttentionStates, keeping_states

__all__ = [
    "BRANCHES",
    "Act",
    "AttentionKind",
    "AttentionRecord",
    "AttentionStates",
    "Branch",
    "Caller",
    "Evidence",
    "Forward",
    "FusedCall",
    "HeadSelection",
    "KeepWeights",
    "KeptAttention",
    "LayerSelection",
    "Lost",
    "Recorder",
    "StepSelection",
    "Trail",
    "acting",
    "keeping_states",
    "matches_name",
    "paused",
    "uncompiled",
]
