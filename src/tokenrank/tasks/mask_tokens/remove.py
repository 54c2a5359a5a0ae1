"""Removed tokens: the blocks run on a shorter sequence, each token with the position it always had."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CaptureError
from ...models import Model
from .sites import Sites, pixels_of, repeated

SAME = 1e-3  # relative: how well permuted tokens must give the permuted answer
ROUNDING = 1e-5  # relative to the largest value


def without_tokens(model: Model, inputs: Mapping[str, Any], sites: Sites, keep: Tensor) -> Any:
    """What the module returns for the tokens ``keep`` alone; see ``tokens_kept``.

    Raises:
        CaptureError: something in it needs all tokens, such as biases by position.
    """
    with tokens_kept(model.module, sites, keep):
        try:
            return model.forward(inputs)
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, CaptureError):
                raise
            raise refusal(
                model, f"with {keep.shape[-1]} of {sites.num_tokens} it stops ({_first_line(error)})"
            ) from error


@contextmanager
def tokens_kept(root: nn.Module, sites: Sites, keep: Tensor) -> Iterator[None]:
    """While active, the blocks of ``root`` see only some tokens.

    The tokens are dropped on the way into the first block, after positions were embedded. What the blocks are given
    beside the sequence and has one entry a token or a patch (rotary cosines and sines, masks) is cut alike, so that
    each token keeps its position.

    Args:
        keep: int64 (B, K), indices among all N tokens, one row a picture.
    """
    cut = _Cut(sites, keep)
    handles = [
        root.get_submodule(name).register_forward_pre_hook(cut.first if place == 0 else cut.later, with_kwargs=True)
        for place, name in enumerate(sites.blocks)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Cut:
    """What the hooks do to a block's arguments."""

    def __init__(self, sites: Sites, keep: Tensor) -> None:
        self.n, self.p, self.begin = sites.num_tokens, len(sites.patches), sites.patches.start
        self.keep = keep
        patches = (keep >= self.begin) & (keep < self.begin + self.p)
        self.keep_patches = keep[patches].reshape(len(keep), -1) - self.begin
        self.same = bool((keep == keep[:1]).all())

    def first(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Into the first block: the sequence is cut as well."""
        return self._cut_call(args, kwargs, True)

    def later(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Into the others: the sequence is short already."""
        return self._cut_call(args, kwargs, False)

    def _cut_call(self, args: Any, kwargs: Any, with_sequence: bool) -> tuple[Any, Any]:
        named = dict(kwargs)
        key = None if args else next((k for k, v in kwargs.items() if isinstance(v, Tensor) and v.ndim == 3), None)
        sequence = args[0] if args else named.pop(key, None)
        if with_sequence:
            if not isinstance(sequence, Tensor) or sequence.shape != (len(self.keep), self.n, sequence.shape[-1]):
                raise CaptureError(
                    f"the first block is given {_shape(sequence)}, expected a sequence ({len(self.keep)}, {self.n}, "
                    "width); use how='keys' or 'pixels'"
                )
            sequence = sequence.gather(1, self.keep[..., None].expand(-1, -1, sequence.shape[-1]))
        named = {name: self._beside(value) for name, value in named.items()}
        if key is not None:
            named[key] = sequence
            return args, named
        return (sequence, *(self._beside(value) for value in args[1:])), named

    def _beside(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._beside(v) for v in value)
        if not isinstance(value, Tensor) or value.ndim < 2:
            return value
        if value.ndim >= 3 and value.shape[-1] == self.n and value.shape[-2] in (1, self.n):  # a mask of attention
            cut = _along(value, self.keep, -1, self.same)
            return _along(cut, self.keep, -2, self.same) if value.shape[-2] == self.n else cut
        for count, keep in ((self.n, self.keep), (self.p, self.keep_patches)):
            if value.shape[-2] == count:
                return _along(value, keep, -2, self.same)
        return value


def _along(value: Tensor, keep: Tensor, dim: int, same: bool) -> Tensor:
    """Entries ``keep`` (B, K) of ``value`` along ``dim``; with one row for all where the rows are the same.

    Where they differ, a value without a batch gets one: (N, d) → (B, 1, K, d), which broadcasts against heads.
    """
    if same:
        return value.index_select(dim, keep[0])
    while value.ndim < 4:
        value = value[None] if value.ndim == 2 else value.unsqueeze(1)
    wide = value.expand(len(keep), *value.shape[1:])
    shape = [len(keep), 1, 1, 1]
    shape[dim] = keep.shape[-1]
    sizes = list(wide.shape)
    sizes[dim] = keep.shape[-1]
    return wide.gather(wide.ndim + dim, keep.reshape(shape).expand(sizes))


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


_checked: weakref.WeakKeyDictionary[nn.Module, set[Sites]] = weakref.WeakKeyDictionary()


def check_removable(model: Model, inputs: Mapping[str, Any], sites: Sites) -> None:
    """Refuse a model whose tokens cannot be dropped; two small forwards the first time, then none.

    Blocks of a transformer do not care in which order tokens stand, as long as each token's position goes with it.
    So all patches are shuffled the way they would be dropped, in two pictures differently, and the last block must
    return the shuffled tokens of the plain forward.

    Raises:
        CaptureError: with the reason.
    """
    if sites in _checked.setdefault(model.module, set()):
        return
    if not sites.blocks:
        raise CaptureError(
            f"model {model.name!r} keeps its layers in no single list of blocks, so that it is unknown where its "
            "tokens could be dropped; use how='keys' or 'pixels'"
        )
    twice = repeated(inputs, torch.tensor([0, 0]))
    generator = torch.Generator().manual_seed(0)
    begin, count = sites.patches.start, len(sites.patches)
    keep = torch.arange(sites.num_tokens).repeat(2, 1)
    for row in keep:
        row[begin : begin + count] = begin + torch.randperm(count, generator=generator)
    keep = keep.to(pixels_of(inputs)[1].device)
    begun, plain = _through_blocks(model, sites, twice, None)
    try:
        _, shuffled = _through_blocks(model, sites, twice, keep)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, CaptureError):
            raise
        raise refusal(model, f"shuffled tokens stop it ({_first_line(error)})") from error
    expected = plain.gather(1, keep[..., None].expand_as(plain))
    # measured by what the blocks change: a small branch beside a large residual stream must be right, too
    change, rounding = float((plain - begun).abs().max()), ROUNDING * float(plain.abs().max())
    gap = float((shuffled - expected).abs().max())
    if not gap <= SAME * change + rounding:
        raise refusal(model, f"shuffled tokens change its answer by {gap:.2g}, where its blocks change {change:.2g}")
    _checked[model.module].add(sites)


def _through_blocks(
    model: Model, sites: Sites, inputs: Mapping[str, Any], keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What went into the first block and what came out of the last."""
    ends: list[Tensor] = []

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        ends.append(args[0] if args else next(v for v in kwargs.values() if isinstance(v, Tensor)))

    def end(module: nn.Module, args: Any, out: Any) -> None:
        ends.append(out[0] if isinstance(out, tuple | list) else out)

    first, last = (model.module.get_submodule(name) for name in (sites.blocks[0], sites.blocks[-1]))
    handles = [first.register_forward_pre_hook(begin, with_kwargs=True), last.register_forward_hook(end)]
    try:
        with tokens_kept(model.module, sites, keep) if keep is not None else nullcontext():
            model.forward(inputs)
    except Exception:
        if len(ends) < 2:  # what follows the last block may need the order of the picture: the caller will see it
            raise
    finally:
        for handle in handles:
            handle.remove()
    return ends[0], ends[1]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def refusal(model: Model, reason: str) -> CaptureError:
    """The error that says why tokens cannot be removed."""
    return CaptureError(
        f"tokens of model {model.name!r} cannot be removed: {reason}, so its positions do not follow its tokens "
        "(relative biases, windows, or positions counted inside a block); use how='keys' or 'pixels'"
    )
