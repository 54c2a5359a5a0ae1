"""Algorithms on the operator contract: pure functions that return numbers with certificates."""

from .bounce import bounce
from .certificate import Certificate
from .lambda2 import Lambda2, lambda2
from .spectrum import Spectrum, spectrum
from .stationary import Stationary, stationary

__all__ = ["Certificate", "Lambda2", "Spectrum", "Stationary", "bounce", "lambda2", "spectrum", "stationary"]
