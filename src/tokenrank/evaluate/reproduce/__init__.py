"""Published experiments, run anew and compared."""

from .experiment import Check, Experiment, Figure, Gain, Order
from .outcome import Judged, Outcome
from .registry import EXPERIMENTS, experiment_of
from .run import reproduce

__all__ = [
    "EXPERIMENTS",
    "Check",
    "Experiment",
    "Figure",
    "Gain",
    "Judged",
    "Order",
    "Outcome",
    "experiment_of",
    "reproduce",
]
