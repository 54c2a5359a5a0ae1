"""Observation: one picture seen by one model, and everything that methods ask about it, computed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .analysis import default_layer
from .chain import AttentionChain, TokenMap
from .errors import CaptureError, InputError, LayoutError, NotFoundError
from .layout import TokenLayout
from .models import Model
from .trace import Trace, capture

Heads: TypeAlias = Literal["uniform", "lambda2"] | int
Layer: TypeAlias = int | str | None


class Observation:
    """What a vision transformer attended to in one picture.

    The forward runs once, when something is first asked; chains, |λ2| and features are kept, so that many methods
    can be compared at the cost of one forward.

    Args:
        model: reads pictures.
        inputs: from ``model.prepare``, a batch of one.
    """

    def __init__(self, model: Model, inputs: Mapping[str, Any]) -> None:
        if model.kind != "image":
            raise InputError(f"model {model.name!r} reads {model.kind}, expected one that reads pictures")
        self.model, self.inputs = model, inputs
        self._full: dict[str, AttentionChain] = {}
        self._lambda2: dict[str, Tensor] = {}
        self._chains: dict[tuple[str, Heads], AttentionChain] = {}
        self._kept: dict[Any, Any] = {}

    @classmethod
    def of(cls, model: Model, inputs: Mapping[str, Any], observation: Observation | None = None) -> Observation:
        """``observation`` where there is one, otherwise a new one."""
        return cls(model, inputs) if observation is None else observation

    @cached_property
    def _run(self) -> tuple[Trace, Any]:
        with capture(self.model.module) as trace:
            output = self.model.forward(self.inputs)
        return trace, output

    @property
    def trace(self) -> Trace:
        """All attention of the forward."""
        return self._run[0]

    @property
    def output(self) -> Any:
        """What the module returned, without gradients."""
        return self._run[1]

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the modules whose self-attention covers the picture, in order."""
        names = tuple(name for name in self.trace.names if self._sees_picture(name))
        if not names:
            raise CaptureError(
                f"no layer of model {self.model.name!r} has square self-attention over the picture's patches; "
                "tr.capture(model).summary() shows what was seen"
            )
        return names

    def layer_name(self, layer: Layer = None) -> str:
        """The name of a layer: given by number (negative from the last) or name; two thirds up where None.

        Raises:
            NotFoundError: no such layer.
        """
        if layer is None:
            return self.layers[default_layer(len(self.layers))]
        if isinstance(layer, str):
            if layer in self.layers:
                return layer
            raise NotFoundError(f"no layer {layer!r}; layers: {', '.join(self.layers)}")
        if not -len(self.layers) <= layer < len(self.layers):
            raise NotFoundError(f"no layer {layer} of {len(self.layers)}; expected 0 to {len(self.layers) - 1}")
        return self.layers[layer]

    @cached_property
    def layout(self) -> TokenLayout:
        """Which token is what, of the first layer."""
        layout = self.full(0).layout
        assert layout is not None
        return layout

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches."""
        grid = self.layout.grids[self.layout.picture]
        if len(grid) != 2:
            raise LayoutError(f"the grid is {grid}, frames of a video; expected one picture")
        return grid

    @property
    def patches(self) -> range:
        """Indices of the patches among all tokens."""
        return self.layout.range(self.layout.picture)

    @property
    def picture_layout(self) -> TokenLayout:
        """The layout of the patches alone."""
        return TokenLayout({"image": len(self.patches)}, {"image": self.grid})

    def full(self, layer: Layer = None) -> AttentionChain:
        """All tokens of a layer, (heads, N, N)."""
        name = self.layer_name(layer)
        if name not in self._full:
            chain = self.trace[name]
            if len(chain.batch) != 2 or chain.batch[0] != 1:
                raise CaptureError(f"layer {name!r} has leading dimensions {tuple(chain.batch)}, expected (1, heads)")
            self._full[name] = AttentionChain(chain[0].to_dense().double(), chain.layout)
        return self._full[name]

    def patch_heads(self, layer: Layer = None) -> AttentionChain:
        """The patches of a layer, head by head, (heads, P, P): CLS and registers dropped, rows renormalised."""
        full = self.full(layer)
        assert full.layout is not None
        return full.restrict(full.layout.picture)

    def lambda2(self, layer: Layer = None) -> Tensor:
        """|λ2| of every head of the patches' chain, (heads,)."""
        name = self.layer_name(layer)
        if name not in self._lambda2:
            self._lambda2[name] = self.patch_heads(name).lambda2().values
        return self._lambda2[name]

    def all_heads(self, layers: Iterable[Layer] | None = None) -> tuple[AttentionChain, Tensor]:
        """Every head of several layers (all by default) as one batch of chains of the patches, and their |λ2|.

        Returns:
            (heads of all, P, P), the first layer's heads first, and (heads of all,).

        Raises:
            CaptureError: layers of different grids, such as a pyramid's.
        """
        names = self.layers if layers is None else tuple(self.layer_name(layer) for layer in layers)
        dense = [self.patch_heads(name).to_dense() for name in names]
        if sizes := {d.shape[-1] for d in dense} - {len(self.patches)}:
            raise CaptureError(
                f"layers have {len(self.patches)} and {sorted(sizes)} patches, expected one grid; name layers of "
                "one grid"
            )
        return AttentionChain(torch.cat(dense), self.picture_layout), torch.cat([self.lambda2(n) for n in names])

    def chain(self, layer: Layer = None, heads: Heads = "uniform") -> AttentionChain:
        """The patches of a layer as one chain, (P, P): CLS and registers dropped, heads mixed.

        Args:
            layer: as in ``layer_name``.
            heads: "uniform", "lambda2" (each by its |λ2|), or the number of one head.
        """
        name = self.layer_name(layer)
        if (name, heads) not in self._chains:
            patches = self.patch_heads(name)
            mixed = patches[heads] if isinstance(heads, int) else patches.aggregate(self._weights(name, heads))
            # dense once: a few hundred patches, asked by many methods
            self._chains[name, heads] = AttentionChain(mixed.to_dense(), self.picture_layout)
        return self._chains[name, heads]

    def features(self, layer: Layer = -1, what: Literal["k", "q"] = "k") -> Tensor:
        """Keys (or queries) of the patches, heads side by side, (P, heads · d)."""
        name = self.layer_name(layer)
        (record,) = (r for r in self.trace.records if r.name == name)
        tensor = getattr(record, what)
        if tensor is None:
            raise CaptureError(
                f"layer {name!r} was seen as weights alone, expected queries and keys; load it with sdpa"
            )
        return tensor[0, :, self.patches.start : self.patches.stop].float().transpose(0, 1).flatten(1)

    def keep(self, key: Any, make: Any) -> Any:
        """What ``make()`` returned when ``key`` was first asked."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def map(self, values: Tensor) -> TokenMap:
        """A map of the patches from values (P,)."""
        return TokenMap(values, self.picture_layout)

    def _weights(self, name: str, heads: str) -> Tensor:
        if heads not in ("uniform", "lambda2"):
            raise InputError(f"heads = {heads!r}, expected 'uniform', 'lambda2' or the number of a head")
        if heads == "lambda2" and (moduli := self.lambda2(name)).any():
            return moduli
        return torch.ones(self.full(name).batch)

    def _sees_picture(self, name: str) -> bool:
        try:
            chain = self.trace[name]
        except CaptureError:
            return False
        return chain.layout is not None and len(chain.layout.grids) == 1
