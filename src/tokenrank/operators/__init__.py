"""Linear operators: a row-stochastic matrix as something to multiply with, built or not."""

from .alike import cosine_spread, from_features
from .base import Operator, everywhere, is_everywhere
from .bipartite import Bipartite, Kernel, Relay
from .blocks import Blocks
from .build import from_query_key, from_scores, from_weights
from .choice import Choice
from .dense import Dense
from .device.path import Path, path_for
from .keyed import Keyed
from .mixture import Mixture, Product
from .pooled import Pooled
from .query_key import QueryKey
from .restricted import Censored, Restricted, restrict
from .reversed import reverse
from .rounding import QUERIES, WEIGHTS
from .sweeping import Sweeping
from .teleport import Lazy, Teleport

__all__ = [
    "QUERIES",
    "WEIGHTS",
    "Bipartite",
    "Blocks",
    "Censored",
    "Choice",
    "Dense",
    "Kernel",
    "Keyed",
    "Lazy",
    "Mixture",
    "Operator",
    "Path",
    "Pooled",
    "Product",
    "QueryKey",
    "Relay",
    "Restricted",
    "Sweeping",
    "Teleport",
    "cosine_spread",
    "everywhere",
    "from_features",
    "from_query_key",
    "from_scores",
    "from_weights",
    "is_everywhere",
    "path_for",
    "restrict",
    "reverse",
]
