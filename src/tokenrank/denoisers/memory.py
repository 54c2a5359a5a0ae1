"""Memory that a pass takes: when it runs out, which size of the picture would have fitted."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..memory import is_out_of_memory


def size_that_fits(run: Callable[[int], object], size: int, step: int) -> int | None:
    """The largest long side, of ``size`` halved again and again, at which ``run`` does not run out of memory.

    Args:
        run: does the work at a long side in pixels; what it returns is let go.
        size: at which it ran out of memory.
        step: pixels that sides are multiples of.

    Returns:
        A multiple of ``step``; None where not even the smallest fits.
    """
    while size > step:
        size = max(step, size // 2 // step * step)
        _let_go()
        try:
            run(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return size
    return None


def _let_go() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
