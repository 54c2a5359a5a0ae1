"""PageRank for attention: softmax attention of any transformer, read as a Markov chain."""

from . import errors
from .chain import AttentionChain
from .layout import TokenLayout, at
from .maps import TokenMap
from .markov import Certificate, Lambda2
from .models import load
from .trace import Trace, capture

__version__ = "0.1.0"

__all__ = [
    "AttentionChain",
    "Certificate",
    "Lambda2",
    "TokenLayout",
    "TokenMap",
    "Trace",
    "at",
    "capture",
    "errors",
    "load",
]
