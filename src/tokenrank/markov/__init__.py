"""Algorithms on the operator contract: pure functions that return numbers with certificates."""

from .absorption import Absorption, absorption
from .bounce import Bounces, HalfLife, bounces, half_life
from .censor import censor
from .certificate import Certificate
from .classes import Classes, classes
from .engine.doeblin import doeblin
from .entropy import EntropyRate, entropy_rate
from .first_passage import FirstPassage, mean_first_passage
from .fundamental import Fundamental, fundamental
from .hitting import HittingTimes, hitting_times
from .kemeny import Kemeny, kemeny
from .lambda2 import Lambda2, lambda2
from .metastable import Metastable, metastable
from .mixing import Dobrushin, MixingTime, dobrushin, mixing_time
from .quasi_stationary import QuasiStationary, quasi_stationary
from .result import Result, leading_index
from .sinks import Sinks, sinks
from .spectrum import Spectrum, spectrum
from .stationary import Stationary, stationary
from .stationary_distributions import StationaryDistributions, stationary_distributions
from .support.irreducible import closed_classes, uniqueness

__all__ = [
    "Absorption",
    "Bounces",
    "Certificate",
    "Classes",
    "Dobrushin",
    "EntropyRate",
    "FirstPassage",
    "Fundamental",
    "HalfLife",
    "HittingTimes",
    "Kemeny",
    "Lambda2",
    "Metastable",
    "MixingTime",
    "QuasiStationary",
    "Result",
    "Sinks",
    "Spectrum",
    "Stationary",
    "StationaryDistributions",
    "absorption",
    "bounces",
    "censor",
    "classes",
    "closed_classes",
    "dobrushin",
    "doeblin",
    "entropy_rate",
    "fundamental",
    "half_life",
    "hitting_times",
    "kemeny",
    "lambda2",
    "leading_index",
    "mean_first_passage",
    "metastable",
    "mixing_time",
    "quasi_stationary",
    "sinks",
    "spectrum",
    "stationary",
    "stationary_distributions",
    "uniqueness",
]
