"""A chain whose queries and keys are spread over the ranks of ``torch.distributed``."""

from .build import from_query_key
from .partition import Partition, contiguous, zigzag
from .query_key import RingQueryKey
from .ring import Ring

__all__ = ["Partition", "Ring", "RingQueryKey", "contiguous", "from_query_key", "zigzag"]
