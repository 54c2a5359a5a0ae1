"""Linear operators: a row-stochastic matrix as something to multiply with, built or not."""

from .base import Operator, everywhere, is_everywhere
from .bipartite import Bipartite, Kernel, Relay
from .blocks import Blocks
from .build import from_query_key, from_scores, from_weights
from .checks import allowed
from .dense import Dense
from .mixture import Mixture, Product
from .query_key import QueryKey
from .restricted import Censored, Restricted, restrict
from .reversed import Reversed
from .teleport import Lazy, Teleport

__all__ = [
    "Bipartite",
    "Blocks",
    "Censored",
    "Dense",
    "Kernel",
    "Lazy",
    "Mixture",
    "Operator",
    "Product",
    "QueryKey",
    "Relay",
    "Restricted",
    "Reversed",
    "Teleport",
    "allowed",
    "everywhere",
    "from_query_key",
    "from_scores",
    "from_weights",
    "is_everywhere",
    "restrict",
]
