"""Runs of a model whose picture is changed, patch by patch, while every token attends to itself alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, LayoutError, TokenRankError
from ..layout import Grid
from ..models.layouts.parts import times
from ..recording import Act, AttentionRecord, Caller, FusedCall, LayerSelection, Recorder, acting
from .capture import capture
from .running import cannot_run

_DOMINANT = 4.0  # how much more a token moves with its own patch than with all that are not
_CLEAN = 1e-3  # of that: what still counts as moving with one patch alone
_MOVED = 1e-4  # of the largest movement of any token
NONE, MIXED = -1, -2
_SEED = 0


@dataclass(frozen=True)
class Moved:
    """With which patch each token of one attention moves: its number, NONE or MIXED.

    Attributes:
        cells: (R, N) int64, of those that move at least four times as much with it as with all others.
        strict: the same of those that move with it alone: what is needed to call a layout wrong.
    """

    cells: Tensor
    strict: Tensor


class _Alone(Act):
    """Every token attends to itself: nothing travels from one to another, and all layers show where patches are.

    Args:
        records: of a recorder around it, which grow.

    Attributes:
        loose: the first attention for which that is not known to hold, and how many records came up to it.
    """

    def __init__(self, records: Sequence[AttentionRecord]) -> None:
        self._records = records
        self.loose: tuple[str, int] | None = None

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall | None:
        return None

    def weights(self, caller: Caller, weights: Tensor) -> Tensor:
        n, m = weights.shape[-2:]
        if n != m:
            return weights
        if caller.kind == "weights":
            self._let_go(caller)  # what became of the logits, or comes of the weights, is unknown
        return torch.eye(n, dtype=weights.dtype, device=weights.device).expand_as(weights)

    def used(self, caller: Caller, weights: Tensor) -> None:
        if weights.shape[-1] != weights.shape[-2]:
            self._let_go(caller)

    def _let_go(self, caller: Caller) -> None:
        self.loose = self.loose or (caller.name, len(self._records))


class Probe:
    """Runs of a model whose picture was changed.

    Attributes:
        picture: the one that was given.
        forwards: how often the model ran.
        doubts: for each self-attention why its tokens need not be those of single patches; "" where they are. Known
            after ``queries``.
    """

    def __init__(self, root: nn.Module, inputs: dict[str, Any], name: str, layers: LayerSelection) -> None:
        self._root, self._inputs, self._name, self._layers = root, inputs, name, layers
        self.picture: Tensor = inputs[name]
        self.forwards = 0
        self.doubts: list[str] = []

    def records(self) -> list[AttentionRecord]:
        """All self-attention of a run in which nothing is changed.

        Raises:
            InputError: the model cannot run on its inputs, looked at or not.
        """
        try:
            with capture(self._root, layers=self._layers) as trace:
                self._forward(self.picture)
        except (TokenRankError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            try:
                self._forward(self.picture)
            except Exception as own:
                raise cannot_run(self._root, self._inputs, own, "tr.check_layout") from own
            raise error
        return list(filter(_is_wanted, trace.records))

    def queries(self, picture: Tensor) -> list[Tensor]:
        """What moves in each: queries (R, N, d), or rows of weights, with every token for itself.

        Raises:
            InputError: queries, or all weights, that are not finite.
        """
        recorder = Recorder(self._root, layers=self._layers)
        alone = _Alone(recorder.records)
        with recorder, acting(self._root, alone):
            self._forward(picture)
        self.doubts = [
            _doubt(record, place, alone.loose, recorder.opaque)
            for place, record in enumerate(recorder.records)
            if _is_wanted(record)
        ]
        wanted = list(filter(_is_wanted, recorder.records))
        rows = list(map(_rows, wanted))
        for record, moving in zip(wanted, rows, strict=True):
            # single rows of weights are NaN where nothing may be attended to
            if record.q is not None or not bool(moving.isfinite().any()):
                what = "weights" if record.q is None else "queries"
                _require_finite(moving, f"the {what} of {record.name!r}", "its input or its parameters are at fault")
        return rows

    def _forward(self, picture: Tensor) -> None:
        given = {**self._inputs, self._name: picture}
        with torch.random.fork_rng([picture.device] if picture.is_cuda else []), torch.no_grad():
            torch.manual_seed(_SEED)
            self._root(given[""]) if "" in given else self._root(**given)
        self.forwards += 1


def _is_wanted(record: AttentionRecord) -> bool:
    return record.is_square and record.shape[-1] > 1


def _doubt(record: AttentionRecord, place: int, loose: tuple[str, int] | None, opaque: Mapping[str, int]) -> str:
    if record.q is None:
        return "its queries are not known, and its weights move with every patch"
    name = next(iter(opaque), None)
    if name is None and loose is not None and place >= loose[1]:
        name = loose[0]
    return "" if name is None else f"the attention of {name!r} could not be replaced, and tokens may have met there"


def _require_finite(values: Tensor, what: str, cure: str) -> None:
    bad = int((~values.isfinite()).sum())
    if bad:
        raise InputError(f"{what}: {bad} of {values.numel()} values are NaN or infinite, expected finite ones; {cure}")


def _rows(record: AttentionRecord) -> Tensor:
    """(R, N, d): queries, heads beside each other."""
    moving = record.q if record.q is not None else record.weights
    assert moving is not None
    if moving.ndim < 4:
        return moving.double().reshape(-1, *moving.shape[-2:])
    return moving.double().transpose(-3, -2).flatten(-2).flatten(0, -3)


def decoded(probe: Probe, records: Sequence[AttentionRecord], before: Sequence[Tensor], grid: Grid) -> list[Moved]:
    """For each record with which patch of ``grid`` a token moves."""
    count = math.prod(grid)
    places = _places(probe.picture, grid)
    noise = torch.randn(probe.picture.shape, generator=torch.Generator().manual_seed(_SEED))
    noise = (noise * probe.picture.detach().float().std().cpu().clamp(min=1e-3)).to(probe.picture)
    numbers = torch.arange(count)
    cells = [torch.zeros(b.shape[:2], dtype=torch.int64) for b in before]
    always = [torch.ones(b.shape[:2], dtype=torch.bool) for b in before]
    still = [torch.ones(b.shape[:2], dtype=torch.bool) for b in before]
    mixed = [torch.zeros(b.shape[:2], dtype=torch.bool) for b in before]
    traces = [torch.zeros(b.shape[:2], dtype=torch.bool) for b in before]
    for digit in range(max(1, math.ceil(math.log2(count)))):
        sides = []
        for value in (0, 1):
            changed = ((numbers >> digit) & 1) == value
            inside = changed.to(places.device)[places].to(probe.picture.device)
            after = probe.queries(torch.where(inside, probe.picture + noise, probe.picture))
            if [a.shape for a in after] != [b.shape for b in before]:
                raise LayoutError(
                    f"the attention of {records[0].name!r} and others has other shapes when the picture is changed, "
                    "expected the same in every call; such a model chooses its tokens by the picture"
                )
            sides.append([_movement(a, b) for a, b in zip(after, before, strict=True)])
        for place, (zero, one) in enumerate(zip(*sides, strict=True)):
            floor = _MOVED * torch.maximum(zero.amax(), one.amax())
            low, high = torch.minimum(zero, one), torch.maximum(zero, one)
            moves = high > floor
            still[place] &= ~moves
            always[place] &= moves
            mixed[place] |= moves & (low * _DOMINANT > high)
            traces[place] |= moves & (low > _CLEAN * high)
            cells[place] += (one > zero).long() << digit
    answers = []
    for place, found in enumerate(cells):
        found[still[place]] = NONE
        found[mixed[place] | ~(always[place] | still[place]) | (found >= count)] = MIXED
        answers.append(Moved(found, torch.where(traces[place], MIXED, found)))
    return answers


def _movement(after: Tensor, before: Tensor) -> Tensor:
    return (after - before).abs().amax(-1).cpu()


def picture_name(inputs: Mapping[str, Any], name: str | None) -> str:
    """The name of the input that is the picture.

    Raises:
        InputError: none, several, or one that is not finite.
    """
    tensors = {n: v for n, v in inputs.items() if isinstance(v, Tensor)}
    found = [n for n, v in tensors.items() if v.is_floating_point() and v.ndim in (4, 5) and name in (None, n)]
    if len(found) != 1:
        shapes = {n: tuple(v.shape) for n, v in tensors.items()}
        cure = "name it, picture=…" if found else (
            "patches that were cut outside of the model (Qwen-VL, SigLIP 2, FLUX) cannot be checked: nothing here says "
            "where in the picture they were"
        )  # fmt: skip
        raise InputError(
            f"the inputs have the shapes {shapes}, {len(found)} of them a picture{f' named {name!r}' if name else ''}, "
            f"expected one of (B, channels, height, width) or (B, frames, channels, height, width); {cure}"
        )
    _require_finite(tensors[found[0]], f"the picture {found[0]!r}" if found[0] else "the picture", "prepare it anew")
    return found[0]


def _places(picture: Tensor, grid: Grid) -> Tensor:
    """The number of the patch at each pixel, to broadcast against the picture."""
    *frames, rows, columns = grid
    height, width = picture.shape[-2:]
    sizes = [(rows, height), (columns, width)]
    if frames:
        axis = 1 if picture.ndim == 5 and picture.shape[2] <= 4 else 2
        if picture.ndim != 5:
            raise InputError(f"the grid {times(grid)} is one of a video, and the picture has {picture.ndim} dimensions")
        sizes.insert(0, (frames[0], picture.shape[axis]))
    if any(n % k for k, n in sizes):
        raise InputError(
            f"a grid of {times(grid)} does not divide {times(tuple(n for _, n in sizes))}, expected patches of whole "
            "pixels; give a picture of another size, or grid=…"
        )
    places = torch.zeros((), dtype=torch.int64)
    for count, size in sizes:
        places = places[..., None] * count + torch.arange(size) // (size // count)
    if frames:
        return places.unsqueeze(1 if axis == 1 else 0)
    return places
