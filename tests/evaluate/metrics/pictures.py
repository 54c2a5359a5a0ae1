"""Random small pictures for the properties: masks, scores and labels of one shape."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def same_shape(*elements: st.SearchStrategy | tuple[type, st.SearchStrategy]) -> st.SearchStrategy:
    """Tuples of arrays of one shape, one for each (dtype, elements)."""
    return SHAPES.flatmap(
        lambda shape: st.tuples(*(arrays.arrays(dtype, shape, elements=entries) for dtype, entries in elements))
    )


MASK = (np.bool_, st.booleans())
UNIT = (np.float64, st.floats(0, 1, allow_subnormal=False))
LEVELS = (np.float64, st.integers(0, 255).map(lambda level: level / 255))
LABELS = (np.int64, st.integers(0, 5))
PARTLY = (np.int64, st.integers(-1, 5))
