"""``tr.map``: one function over many sources, here or on a cluster, in parts that survive."""

from .map import map
from .mapped import Mapped

__all__ = ["Mapped", "map"]
