"""Linear operators: a row-stochastic matrix as something to multiply with, built or not."""

from .base import Operator
from .build import from_query_key, from_scores, from_weights
from .dense import Dense
from .mixture import Mixture
from .query_key import QueryKey
from .restricted import Restricted
from .reversed import Reversed
from .teleport import Teleport

__all__ = [
    "Dense",
    "Mixture",
    "Operator",
    "QueryKey",
    "Restricted",
    "Reversed",
    "Teleport",
    "from_query_key",
    "from_scores",
    "from_weights",
]
