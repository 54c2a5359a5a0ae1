"""From a running model to attention chains: ``capture`` and ``Trace``."""

from .capture import capture
from .core import Trace
from .estimate import Estimate

__all__ = ["Estimate", "Trace", "capture"]
