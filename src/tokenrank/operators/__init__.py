"""Linear operators: a row-stochastic matrix as something to multiply with, built or not."""

from .base import Operator
from .bipartite import Bipartite
from .blocks import Blocks
from .build import from_query_key, from_scores, from_weights
from .censored import Censored
from .dense import Dense
from .everywhere import everywhere, is_everywhere
from .kernel import Kernel
from .lazy import Lazy
from .mixture import Mixture
from .product import Product
from .query_key import QueryKey
from .relay import Relay
from .restricted import Restricted
from .reversed import Reversed
from .teleport import Teleport

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
    "everywhere",
    "from_query_key",
    "from_scores",
    "from_weights",
    "is_everywhere",
]
