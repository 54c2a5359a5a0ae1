"""Algorithms on the operator contract: pure functions that return numbers with certificates."""

from .bounce import bounce
from .censor import censor
from .certificate import Certificate
from .classes import Classes, classes
from .extreme import Extreme, extreme_stationary
from .horizon import Horizon, Rule, horizon
from .lambda2 import Lambda2, lambda2
from .spectrum import Spectrum, spectrum
from .stationary import Stationary, stationary
from .uniqueness import closed_classes, uniqueness

__all__ = [
    "Certificate",
    "Classes",
    "Extreme",
    "Horizon",
    "Lambda2",
    "Rule",
    "Spectrum",
    "Stationary",
    "bounce",
    "censor",
    "classes",
    "closed_classes",
    "extreme_stationary",
    "horizon",
    "lambda2",
    "spectrum",
    "stationary",
    "uniqueness",
]
