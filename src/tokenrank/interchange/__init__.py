"""Ways in for people who already have attention, and traces as files."""

from .attentions import from_attentions
from .lens import from_cache
from .query_key import from_query_key
from .read import load_trace

__all__ = ["from_attentions", "from_cache", "from_query_key", "load_trace"]
