"""The explorer: attention that walks, in one page without a server, in a notebook, or on a site."""

from .explore import explore
from .explorer import Explorer

__all__ = ["Explorer", "explore"]
