"""Traces: attention of a running model, or from elsewhere, as attention chains."""

from .capture import capture
from .check_layout import LayerCheck, LayoutCheck, check_layout
from .external import from_attentions, from_query_key, load_trace
from .summary import Estimate
from .trace import Trace
from .transformer_lens import from_cache

__all__ = [
    "Estimate",
    "LayerCheck",
    "LayoutCheck",
    "Trace",
    "capture",
    "check_layout",
    "from_attentions",
    "from_cache",
    "from_query_key",
    "load_trace",
]
