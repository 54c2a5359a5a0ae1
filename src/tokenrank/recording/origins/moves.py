"""What functions do to cells: tensors of whole numbers, of size 1 along dimensions in which nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .trail import LOST, Lost

Cells = Tensor | Lost
Seen = tuple[Tensor, "Cells | None"]


def fits(cells: Tensor, shape: Sequence[int]) -> bool:
    """Whether cells can be those of a tensor of that shape."""
    return cells.ndim == len(shape) and all(c in (1, s) for c, s in zip(cells.shape, shape, strict=True))


def alike(a: Cells | None, b: Cells | None) -> bool:
    """Whether two are known and say the same."""
    if a is b:
        return True
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.ndim != b.ndim:
        return False
    if any(m != n and 1 not in (m, n) for m, n in zip(a.shape, b.shape, strict=True)):
        return False
    return bool((a == b).all())


def is_arranged(cells: Tensor, grid: Sequence[int]) -> bool:
    """Whether cells lie in rows and columns as a convolution's output does."""
    return cells.shape[2:] == tuple(grid) and cells.shape[1] == 1


def is_in_order(cells: Tensor) -> bool:
    """Whether each map (B, 1, rows, columns) holds its cells row by row, padding around them aside."""
    if cells.shape[1] != 1:
        return False
    for axis in range(2, cells.ndim):
        inside = (cells >= 0).movedim(axis, 0).flatten(1).any(1).nonzero().flatten()
        if not len(inside):
            return False
        cells = cells.narrow(axis, int(inside[0]), int(inside[-1] - inside[0]) + 1)
    rows = cells.flatten(1)
    begins, area = rows[:, 0], rows.shape[1]
    whole = begins % area == begins[0] % area
    return torch.equal(rows, begins[:, None] + torch.arange(area)) and bool(whole.all())


def flat(cells: Cells) -> Cells:
    """A map (B, 1, rows, columns) as a row of windows (B, 1, N)."""
    return cells if isinstance(cells, Lost) else cells.flatten(2)


def combined(seen: Sequence[Seen], out: Any) -> Cells | None:
    """Entry by entry: where several operands have cells, these have to be the same."""
    found: Tensor | None = None
    lost: Lost | None = None
    losing: list[Tensor] = []
    for tensor, cells in seen:
        if isinstance(cells, Lost):
            lost = cells
            losing.append(tensor)
        elif cells is not None:
            cells = cells.view((1,) * (out.ndim - cells.ndim) + cells.shape) if cells.ndim < out.ndim else cells
            if found is not None and not alike(found, cells):
                return LOST
            found = cells if found is None or cells.numel() > found.numel() else found
    if lost is None:
        return found
    # what was pooled over all tokens comes back to each of them alike
    if found is not None and all(_is_even(tensor, found) for tensor in losing):
        return found
    return lost


def _is_even(tensor: Tensor, cells: Tensor) -> bool:
    """Whether a tensor has one value along the dimensions of the tokens, the first excepted, which is the batch."""
    shape = (1,) * (cells.ndim - tensor.ndim) + tuple(tensor.shape)
    return all(c == 1 or s == 1 for c, s in zip(cells.shape[1:], shape[1:], strict=True))


def tokens(cells: Tensor, count: int) -> Cells:
    """Cells of the second last dimension (…, N), with the leading ones."""
    if cells.ndim < 2 or cells.shape[-1] != 1:
        return Lost("patches that lie along the features")
    one = cells[..., 0]
    return one.expand(*one.shape[:-1], count)


def linear(cells: Cells | None, out: Tensor) -> Cells | None:
    """A mixture of the last dimension."""
    if not isinstance(cells, Tensor):
        return cells
    return cells if cells.shape[-1] == 1 and cells.ndim == out.ndim else LOST


def product(a: Seen, b: Seen, out: Tensor) -> Cells | None:
    """A matrix product: rows are those of the first where it has cells, else columns those of the second."""
    (first, rows), (second, columns) = a, b
    if isinstance(rows, Lost):
        return rows
    if rows is not None:
        if first.ndim > 1 and rows.shape[-1] == 1:
            return _aligned(rows, out.ndim)
        answers = isinstance(columns, Tensor) and min(first.ndim, second.ndim) > 1 and alike(rows.mT, columns)
        return None if answers else LOST  # weights of queries that are no patches, and the patches
    if not isinstance(columns, Tensor):
        return columns
    if second.ndim == 1 or columns.shape[-2] != 1:
        return LOST
    return _aligned(columns, out.ndim)


def einsum(equation: Any, operands: Sequence[Seen]) -> Cells | None:
    """The same with letters for dimensions: the first operand that has cells says them; one alone is moved."""
    seen = next(cells for _, cells in operands if cells is not None)
    if isinstance(seen, Lost):
        return seen
    inputs, _, result = equation.replace(" ", "").partition("->") if isinstance(equation, str) else ("", "", "")
    letters = inputs.split(",")
    if len(letters) != len(operands) or "." in inputs or not result or any(len(set(w)) < len(w) for w in letters):
        return Lost("einsum")
    names = next(n for n, (_, cells) in zip(letters, operands, strict=True) if cells is seen)
    gone = [i for i, n in enumerate(names) if n not in result]
    if any(seen.shape[i] != 1 for i in gone):
        return LOST
    left = [n for n in names if n in result]
    cells = seen.squeeze(gone).permute([left.index(n) for n in result if n in left])
    return cells[tuple(slice(None) if n in left else None for n in result)]


def _aligned(cells: Tensor, ndim: int) -> Tensor:
    return cells.view((1,) * (ndim - cells.ndim) + cells.shape) if cells.ndim < ndim else cells


def reshaped(cells: Cells | None, before: Sequence[int], after: Sequence[int]) -> Cells | None:
    """Dimensions merged and split; groups of them in which nothing changes stay of size 1."""
    if not isinstance(cells, Tensor):
        return cells
    if 0 in before:  # an empty batch: nothing tells its groups apart
        return collapsed(cells.expand(tuple(before)).reshape(tuple(after)))
    sizes: list[int] = []  # of the new cells
    merged: list[int] = []  # of the old ones, broadcast inside the groups where something changes
    i = j = 0
    while i < len(before) or j < len(after):
        begin, other = i, j
        left = right = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        group = cells.shape[begin:i]
        changes = any(size > 1 for size in group)
        merged += [*before[begin:i]] if changes else [1] * len(group)
        sizes += [*after[other:j]] if changes else [1] * (j - other)
    return collapsed(cells.expand(merged).reshape(sizes))


def reduced(cells: Cells | None, source: Tensor, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Any:
    """Sums and means: over features tokens stay apart."""
    if not isinstance(cells, Tensor):
        return cells
    dims = kwargs.get("dim", kwargs.get("axis", next((a for a in args if not isinstance(a, bool)), None)))
    if dims is None or isinstance(dims, Tensor | float):
        return Lost("a sum over patches")
    chosen = {d % source.ndim for d in ((dims,) if isinstance(dims, int) else dims)}
    if any(cells.shape[d] != 1 for d in chosen):
        return Lost("a sum over patches")
    result = out if isinstance(out, Tensor) else out[0]
    return cells if result.ndim == source.ndim else cells.squeeze(sorted(chosen))


def joined(pairs: Sequence[Seen], dim: int) -> Cells:
    """Tensors one after the other along a dimension; those without cells hold no patch."""
    for _, cells in pairs:
        if isinstance(cells, Lost):
            return cells
    known = [cells for _, cells in pairs if isinstance(cells, Tensor)]
    if len(known) == len(pairs) and all(c.shape[dim] == 1 for c in known) and all(alike(known[0], c) for c in known):
        return known[0]  # features side by side
    beside = dim > 0 and all(c.shape[dim] == 1 for c in known) and all(_spread(c, dim) for c in known)
    if beside and all(alike(known[0], c) for c in known):
        return known[0]  # coordinates beside the features, say
    shape = [max(c.shape[axis] for c in known) for axis in range(known[0].ndim)]
    pieces = []
    for tensor, cells in pairs:
        own = torch.full((), -1, device="cpu").expand(shape) if not isinstance(cells, Tensor) else cells
        size = list(shape)
        size[dim] = 1 if not isinstance(cells, Tensor) else own.shape[dim]
        own = own.narrow(dim, 0, 1) if not isinstance(cells, Tensor) else own
        pieces.append(own.expand(size).expand([*size[:dim], tensor.shape[dim], *size[dim + 1 :]]))
    return collapsed(torch.cat(pieces, dim))


def _spread(cells: Tensor, dim: int) -> bool:
    """Whether cells change along dimensions other than ``dim`` and the batch."""
    return any(size > 1 for axis, size in enumerate(cells.shape) if axis not in (0, dim))


def moved(func: Any, full: Any, args: Sequence[Any], kwargs: dict[str, Any], is_pad: bool) -> Any:
    """The function itself, on cells."""
    rest = [on_cpu(a) for a in args]
    named = {name: on_cpu(v) for name, v in kwargs.items()}
    if is_pad:
        mode = named.get("mode", rest[1] if len(rest) > 1 and isinstance(rest[1], str) else "constant")
        if mode != "constant":
            return Lost("pad")
        pad = rest[0] if rest else named["pad"]
        return collapsed(torch.nn.functional.pad(full, pad, value=-1))
    result = func(full, *rest, **named)
    return collapsed(result) if isinstance(result, Tensor) else [collapsed(r) for r in result]


def on_cpu(value: Any) -> Any:
    """Indices where cells are."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
        return type(value)(map(on_cpu, value))
    return value


def collapsed(cells: Tensor) -> Tensor:
    """Cells with size 1 along the dimensions in which they do not change."""
    for axis in range(cells.ndim):
        if cells.shape[axis] > 1 and cells.stride(axis) == 0:  # before anything is compared
            cells = cells.narrow(axis, 0, 1)
    for axis in reversed(range(cells.ndim)):
        if cells.shape[axis] > 1:
            one = cells.narrow(axis, 0, 1)
            if bool((cells == one).all()):
                cells = one
    return cells
