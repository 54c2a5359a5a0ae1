"""Which token is what, found from what a model is and what it did: never from the square root of N."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LayoutError
from ..layout import TokenLayout
from ..tracing import Evidence
from .geometry import pair, patch_size
from .prefix import Extras, find_extras

Inputs = Mapping[str, Any]
"""Bound argument name → tensor (integers, booleans) or ``torch.Size`` (floats: only the shape matters)."""

_TEXT_INPUTS = ("input_ids", "decoder_input_ids")


def find_layout(model: nn.Module, num_tokens: int, evidence: Evidence, name: str = "") -> TokenLayout | None:
    """The layout of an attention over ``num_tokens`` tokens in ``model``.

    Pictures: a grid measured in the forward must, together with the tokens that the model's own
    parameters name (CLS, distillation token, registers), make exactly ``num_tokens``. Without any
    measured grid, picture size over patch size stands in. Text: as many tokens as ``input_ids`` has.

    Args:
        model: the module that ran.
        num_tokens: N, rows of the attention matrix.
        evidence: what the forward showed of its tokens.
        name: of the attention module; "" where there is none.

    Returns:
        The layout, without token strings; None when nothing says what the tokens are.

    Raises:
        LayoutError: the evidence contradicts itself, or several readings fit.
    """
    inputs = evidence.inputs
    grids = _distinct(g for g in evidence.conv_grids if len(g) == 2) or _distinct(_stated_grid(model, inputs))
    extras = find_extras(model)
    pictures = _picture_readings(num_tokens, grids, extras)
    if pictures:
        _refuse_shuffled(model, inputs)
        _refuse_windows(model, num_tokens, grids, pictures)
    texts = [TokenLayout({"text": num_tokens})] if num_tokens in _text_lengths(inputs).values() else []
    readings = pictures + texts
    if len(readings) == 1:
        return readings[0]
    if readings:
        found = "; or ".join(_describe(r) for r in readings)
        raise LayoutError(f"ambiguous layout of {num_tokens} tokens: {found}; {_cure(readings[0])}")
    if found := _found(num_tokens, grids, extras, inputs):
        raise LayoutError(f"unknown layout of {num_tokens} tokens: {found}")
    return None


def expected_layout(model: nn.Module, inputs: Inputs) -> TokenLayout | None:
    """The layout that ``model`` should have for ``inputs``, before it runs.

    From picture size, patch size and the tokens that its parameters name. None where these do not
    say it, or say several things.
    """
    grids, extras = _stated_grid(model, inputs), find_extras(model)
    if len(grids) != 1 or len(extras) != 1:
        return None
    return _picture(grids[0], extras[0])


def _picture(grid: tuple[int, int], extras: Extras) -> TokenLayout:
    return TokenLayout(extras.around("image", math.prod(grid)), {"image": grid})


def _picture_readings(num_tokens: int, grids: Sequence[tuple[int, int]], extras: Sequence[Extras]) -> list[TokenLayout]:
    return [_picture(g, e) for e in extras for g in grids if math.prod(g) + e.count == num_tokens]


def _distinct(grids: Iterable[tuple[int, ...]]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((int(g[-2]), int(g[-1])) for g in grids))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else tuple(value)


def _picture_shapes(inputs: Inputs) -> list[tuple[int, ...]]:
    """Shapes (B, C, H, W) of the floating-point inputs with one to four channels."""
    floats = [v for v in inputs.values() if not isinstance(v, Tensor) or v.is_floating_point()]
    shapes = [_shape(v) for v in floats if isinstance(v, torch.Size | Tensor)]
    return [s for s in shapes if len(s) == 4 and 1 <= s[1] <= 4]


def _stated_grid(model: nn.Module, inputs: Inputs) -> list[tuple[int, int]]:
    shapes, patch = _picture_shapes(inputs), patch_size(model)
    if len(shapes) != 1 or patch is None:
        return []
    rows, columns = shapes[0][-2] // patch[0], shapes[0][-1] // patch[1]
    return [(rows, columns)] if rows and columns else []


def _text_lengths(inputs: Inputs) -> dict[str, int]:
    tensors = {name: inputs[name] for name in _TEXT_INPUTS if isinstance(inputs.get(name), Tensor)}
    return {name: int(ids.shape[-1]) for name, ids in tensors.items() if ids.ndim}


def _refuse_shuffled(model: nn.Module, inputs: Inputs) -> None:
    """A masked autoencoder sorts its patches by ``noise``: only rising noise keeps them in place."""
    if getattr(getattr(model, "config", None), "model_type", None) != "vit_mae":
        return
    noise = inputs.get("noise")
    if not isinstance(noise, Tensor) or bool((noise.diff(dim=-1) <= 0).any()):
        raise LayoutError(
            "the masked autoencoder shuffles its patches, and in which order is not known; keep them in "
            "place: model.config.mask_ratio = 0 and model(pixel_values, noise=torch.arange(patches)[None])"
        )


def _refuse_windows(
    model: nn.Module, num_tokens: int, grids: Sequence[tuple[int, int]], readings: Sequence[TokenLayout]
) -> None:
    """A window as large as the last, coarse grid looks like that grid while it is a part of a finer one."""
    windows = {w for m in model.modules() for n in ("window_size", "partition_size") if (w := pair(_of(m, n)))}
    window = next((w for w in windows if math.prod(w) == num_tokens), None)
    finer = [g for g in grids if math.prod(g) > num_tokens]
    if window is not None and finer:
        raise LayoutError(
            f"ambiguous layout of {num_tokens} tokens: a {window[0]} × {window[1]} window of the "
            f"{finer[-1][0]} × {finer[-1][1]} grid; or {_describe(readings[0])}; {_cure(readings[0])}"
        )


def _of(module: nn.Module, name: str) -> Any:
    value = getattr(module, name, None)
    return tuple(value) if isinstance(value, list) else value


def _found(num_tokens: int, grids: Sequence[tuple[int, int]], extras: Sequence[Extras], inputs: Inputs) -> str:
    """What was found, in words, with the cure; empty when nothing was."""
    parts = []
    fitting = [g for g in grids if math.prod(g) <= num_tokens]
    stated = " or ".join(str(e) for e in extras)
    if fitting:
        rows, columns = fitting[-1]
        rest = num_tokens - rows * columns
        parts.append(
            f"the last grid that fits is {rows} × {columns} = {rows * columns} patches, which leaves {rest}, "
            f"and the model's parameters name {stated}"
        )
        guess = TokenLayout({"prefix": rest, "image": rows * columns}, {"image": fitting[-1]})
    elif grids:
        rows, columns = min(grids, key=math.prod)
        parts.append(
            f"the coarsest grid seen is {rows} × {columns} = {rows * columns} patches, so these are windows, or "
            "patches were dropped or merged"
        )
        guess = TokenLayout({"tokens": num_tokens})
    else:
        guess = TokenLayout({"text": num_tokens})
    parts += [f"{name} has {length} tokens" for name, length in _text_lengths(inputs).items()]
    return f"{', and '.join(parts)}; {_cure(guess)}" if parts else ""


def _describe(layout: TokenLayout) -> str:
    grid = "".join(f", {r} × {c} patches" for r, c in layout.grids.values())
    return " + ".join(f"{n} {name}" for name, n in layout.spans.items()) + grid


def _cure(layout: TokenLayout) -> str:
    grids = f", {dict(layout.grids)}" if layout.grids else ""
    example = f"tr.TokenLayout({dict(layout.spans)}{grids})"
    return f"say which it is, for example trace.layout = {example} (or layout= to capture), or False for none"
