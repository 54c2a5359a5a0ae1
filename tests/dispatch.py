"""Watches what PyTorch is asked for: the device path is judged by it where there is no device.

A kernel on a GPU costs a launch, and everything that Python must know of its result costs a wait for all that was
launched before. Both are counted here on a CPU, of a path that was asked for (``path="device"``).

What this library copied to the host, or made there without a device's name, is the host's from then on, and so is what
is computed from that alone. To read it costs nothing; to send it back without ``non_blocking=True`` is a wait.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# operations whose result Python, or the size of a tensor, depends on (``torch.cuda.set_sync_debug_mode`` names them)
WAITING = {
    "_linalg_check_errors",
    "_linalg_eigh",
    "_linalg_eigvals",
    "_linalg_svd",
    "_local_scalar_dense",
    "_unique2",
    "argwhere",
    "bincount",
    "equal",
    "histc",
    "linalg_eig",
    "linalg_eigvals",
    "linalg_lstsq",
    "masked_select",
    "nonzero",
    "nonzero_numpy",
    "unique_consecutive",
    "unique_dim",
}
# methods that copy to the host, and leave no trace among the operations where the tensor is there already
COPYING = {"cpu", "numpy", "tolist", "__array__"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
# without a device's name on the host
MADE = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"}
FUSED = "scaled_dot_product"


class Watch:
    """Counts while it is entered: ``with Watch(tokens=n) as seen: …``.

    Args:
        tokens: N, from which on a matrix counts as one of N × N; none does by default.

    Attributes:
        ops: operations by name, views among them.
        waits: times that the host would wait for a device, by "operation file.py:line" of this library.
        widths: (width of q, width of v, dtype) of every fused attention call.
        unfused: attention calls that no fused kernel took: PyTorch builds N × N for them.
        float64: bytes of the largest tensor of that precision that was made (views are made by nobody).
        squares: tensors made with at least N rows and N columns, by dtype.
    """

    def __init__(self, tokens: int | None = None) -> None:
        self.tokens = tokens
        self.ops: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.widths: set[tuple[int, int, torch.dtype]] = set()
        self.unfused = self.float64 = 0
        self.squares: Counter[torch.dtype] = Counter()
        self._modes = (_Functions(self), _Operations(self))

    def __enter__(self) -> Watch:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    @property
    def count(self) -> int:
        """All operations."""
        return self.ops.total()

    def waited(self, name: str) -> None:
        """Count a wait of the host, where this library asked for it."""
        self.waits[f"{name} {_line()}"] += 1


class _Operations(TorchDispatchMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs, watch = func._schema.name.split("::")[-1], kwargs or {}, self.watch
        watch.ops[name] += 1
        given = _tensors((args, kwargs))
        given = [t for t in given if t.ndim] or given  # numbers go anywhere
        on_host = bool(given) and all(_on_host(t) for t in given)
        if not on_host and (name in WAITING or (name in INDEXING and _waits(args[1]))):
            watch.waited(name)
        if not on_host and name == "repeat_interleave" and isinstance(args[0], Tensor) and "output_size" not in kwargs:
            watch.waited(name)
        if FUSED in name:
            watch.widths.add((args[0].shape[-1], args[2].shape[-1], args[0].dtype))
        found = func(*args, **kwargs)
        if on_host:
            for made in _tensors(found):
                made.is_of_the_host = True
        if not func.is_view:
            for made in found if isinstance(found, (tuple, list)) else (found,):
                self._made(made)
        return found

    def _made(self, made: Any) -> None:
        if not isinstance(made, Tensor):
            return
        if made.dtype == torch.float64:
            self.watch.float64 = max(self.watch.float64, made.nbytes)
        if self.watch.tokens is not None and made.ndim > 1 and min(made.shape[-2:]) >= self.watch.tokens:
            self.watch.squares[made.dtype] += 1


class _Functions(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, given = getattr(func, "__name__", ""), kwargs.get("device")
        on_host = bool(args) and isinstance(args[0], Tensor) and _on_host(args[0])
        if name in COPYING or name == "to":
            target = _target(args, kwargs) if name == "to" else "host"
            if target is None or (on_host and target == "host"):
                return func(*args, **kwargs)
            if not (name == "to" and kwargs.get("non_blocking")):
                self.watch.waited("to cpu" if name == "to" else name)
            found = func(*args, **kwargs)
            if not isinstance(found, Tensor):
                return found
            # on a CPU nothing is copied: the one on the other side is a tensor of its own all the same
            return _marked(found.clone() if on_host else found.view_as(found), target == "host")
        if name == "new_tensor" or (name in ("tensor", "as_tensor") and given is not None):
            if not on_host:
                self.watch.waited(name)
            return _marked(func(*args, **kwargs), on_host)
        if name in MADE and given is None and _line() != "outside":
            return _marked(func(*args, **kwargs), True)
        if name != FUSED + "_attention":
            return func(*args, **kwargs)
        before = self._fused()
        found = func(*args, **kwargs)
        self.watch.unfused += self._fused() == before
        return found

    def _fused(self) -> int:
        return sum(count for name, count in self.watch.ops.items() if FUSED in name and "math" not in name)


def _waits(indices: Any) -> bool:
    """By a mask, whose True ones have to be counted, or by what has to be sent to the device first."""
    given = _tensors(indices)
    return any(i.dtype in (torch.bool, torch.uint8) or (_on_host(i) and i.ndim > 0) for i in given)


def _tensors(nested: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]


def _on_host(tensor: Tensor) -> bool:
    return getattr(tensor, "is_of_the_host", False)


def _marked(tensor: Tensor, host: bool) -> Tensor:
    tensor.is_of_the_host = host
    return tensor


def _target(args: Any, kwargs: Any) -> str | None:
    """Where ``to`` takes a tensor: "host", "device", or None where it stays."""
    like = kwargs.get("other", args[1] if len(args) > 1 else None)
    if isinstance(like, Tensor):
        here, there = _on_host(args[0]), _on_host(like)
        return None if here == there else "host" if there else "device"
    if any(torch.device("cpu") == a or a == "cpu" for a in (*args[1:], kwargs.get("device"))):
        return "device" if _on_host(args[0]) else "host"
    return None


def _line() -> str:
    """The innermost line of the library that is being run."""
    frame = sys._getframe()
    while frame is not None:
        path = frame.f_code.co_filename.replace("\\", "/")
        if "/tokenrank/" in path:
            return f"{path.rsplit('/tokenrank/', 1)[1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside"
