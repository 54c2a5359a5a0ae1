"""Partitions of a picture into windows, read off the attributes of modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from ..errors import LayoutError
from .layouts.towers import path
from .preprocess import pair

CURE = "trace.layout = False takes every window as a chain of its own, in the order of the record"

Order = Literal["pad, roll", "roll, pad"]

_ORDERS: dict[str, Order] = {"transformers": "pad, roll", "torchvision": "pad, roll", "timm": "roll, pad"}


@dataclass(frozen=True)
class Partition:
    """Windows of a windowed attention.

    Attributes:
        size: (rows, columns) of tokens that a window has.
        shift: (rows, columns) by which the picture is rolled back before it is cut (Swin); None where
            the modules name no shift.
        pads: whether pictures are padded, at the bottom and to the right, to a multiple of the window.
        order: whether the picture is padded before it is rolled; None where that is not known.
        still: the shift is left out along an axis that has one window only (torchvision).
        dilated: a window has every k-th row and column of the picture, k apart (MaxViT's grid attention).
        mergings: how often the picture was halved by patch merging before, odd sizes rounded up; None
            where the model merges no patches, so that its grids are all those of convolutions.
    """

    size: tuple[int, int]
    shift: tuple[int, int] | None = None
    pads: bool = True
    order: Order | None = None
    still: bool = False
    dilated: bool = False
    mergings: int | None = None


def find_partition(model: nn.Module, name: str, num_tokens: int) -> Partition | None:
    """How the attention ``name`` of ``model`` with ``num_tokens`` tokens cuts its picture into windows.

    From ``window_size`` and ``shift_size`` (Swin, SAM, ViTDet and their like), ``partition_size`` or
    ``partition_type`` (MaxViT), of the attention or of a module above it, the nearest first.

    Returns:
        None where no module names a window of that many tokens: the attention is over all of them.

    Raises:
        LayoutError: windows whose order is not known: Hiera's mask units, Qwen-VL's windows, windows of
            videos, MaxViT's parallel attention.
    """
    above = path(model, name)
    for module in above:
        size, dilated = _partition_size(module, name, num_tokens), False
        if size is not None:
            dilated = _is_dilated(module, name)
        elif isinstance(window := getattr(module, "window_size", None), int | Sequence):
            if _is_global(module, name):
                return None
            _refuse_reordered(module, name, num_tokens)
            size = _area(window, name, num_tokens)
        if size is not None:
            return Partition(
                size, dilated=dilated, pads=not _is_maxvit(module), mergings=_mergings(model, above[0]), **_shift(above)
            )
    return None


def _partition_size(module: nn.Module, name: str, num_tokens: int) -> tuple[int, int] | None:
    if hasattr(module, "partition_size"):  # timm
        return _area(module.partition_size, name, num_tokens)
    if hasattr(module, "partition_type") and hasattr(module, "p"):  # torchvision
        return _area(module.g if module.partition_type == "grid" else module.p, name, num_tokens)
    return None


def _is_maxvit(module: nn.Module) -> bool:
    return hasattr(module, "partition_size") or hasattr(module, "partition_type")


def _is_dilated(module: nn.Module, name: str) -> bool:
    if hasattr(module, "partition_block"):
        return not module.partition_block
    if hasattr(module, "partition_type"):
        return module.partition_type == "grid"
    raise LayoutError(
        f"{name!r} is one of two kinds of windows in {type(module).__name__}, and no attribute says which, expected "
        f"partition_block or partition_type; {CURE}"
    )


def _area(window: Any, name: str, num_tokens: int) -> tuple[int, int] | None:
    """The window as (rows, columns), if it has ``num_tokens`` tokens."""
    if isinstance(window, Sequence) and len(window) == 3 and window[0] * window[1] * window[2] == num_tokens:
        raise LayoutError(
            f"{name!r} has windows of {' × '.join(map(str, window))} tokens of a video, expected windows of a "
            f"picture, rows × columns; {CURE}"
        )
    size = pair(window)
    return size if size is not None and size[0] * size[1] == num_tokens else None


def _is_global(module: nn.Module, name: str) -> bool:
    """Whether this attention is over all tokens, in a model that has windows elsewhere."""
    if isinstance(full := getattr(module, "fullatt_block_indexes", None), Sequence):  # Qwen2.5-VL
        return _number(name) in full
    return not module.window_size or getattr(module, "use_mask_unit_attn", None) is False  # SAM, ViTDet; Hiera


def _refuse_reordered(module: nn.Module, name: str, num_tokens: int) -> None:
    kind = type(module).__name__
    if hasattr(module, "use_mask_unit_attn"):
        raise LayoutError(
            f"{name!r} ({kind}) attends within mask units, whose tokens Hiera has put in an order of its own and "
            f"pools from stage to stage, expected windows cut from rows and columns; {CURE}"
        )
    if hasattr(module, "fullatt_block_indexes"):
        raise LayoutError(
            f"{name!r} (in {kind}) makes one call a window, of patches that it has put in an order of its own, so that "
            f"its {num_tokens} tokens are those of one window; expected one call for all windows; {CURE}"
        )


def _number(name: str) -> int:
    return next((int(part) for part in reversed(name.split(".")) if part.isdigit()), -1)


def _shift(above: Sequence[nn.Module]) -> dict[str, Any]:
    owner = next((m for m in above if hasattr(m, "shift_size")), None)
    if owner is None:
        return {}
    shift: Any = owner.shift_size
    rows, columns = (shift, shift) if isinstance(shift, int) else shift
    packages = [c.__module__.split(".")[0] for c in type(owner).__mro__]
    library = next((p for p in packages if p in _ORDERS), "")
    return {"shift": (int(rows), int(columns)), "order": _ORDERS.get(library), "still": library == "torchvision"}


def _mergings(model: nn.Module, attention: nn.Module) -> int | None:
    """How many patch mergings stand before ``attention``: modules are listed in the order in which they run."""
    modules = list(model.modules())
    merging = [i for i, m in enumerate(modules) if _merges(m)]
    before = next(i for i, m in enumerate(modules) if m is attention)
    return sum(i < before for i in merging) if merging else None


def _merges(module: nn.Module) -> bool:
    # TinyViT merges by convolutions, whose grids are seen as such
    return "PatchMerging" in type(module).__name__ and not any(
        isinstance(m, nn.Conv2d | nn.Conv3d) for m in module.modules()
    )
