"""Observation: one source seen by one model, read once; what tasks, baselines, figures and commands ask of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar, cast

import PIL.Image
import torch
from torch import Tensor

from .chain import AttentionChain, TokenMap
from .chain.arranged import arranged
from .errors import CaptureError, InputError, LayoutError, TokenRankError
from .html import note, panel, table
from .layout import LayoutChoice, TokenLayout
from .markov import Lambda2
from .models import Modality, Model
from .recording import AttentionRecord
from .select import (
    HEADS,
    Heads,
    Layer,
    Layers,
    Tokens,
    checked_heads,
    default_layer,
    head_weights,
    layer_of,
    layers_of,
    mixed,
    tokens_of,
)
from .trace import Trace

Seen: TypeAlias = "tuple[Mapping[str, AttentionChain], Mapping[str, str]]"
T = TypeVar("T")

DENSE_TOKENS = 1600
"""A mixed chain of up to so many tokens is kept as a matrix (20 MB at most): it pays from the second question on."""


class Observation:
    """What a model attended to in one picture or text; made by ``tr.observe``.

    The forward runs once, when something is first asked. Chains stay what was recorded (queries and keys, nothing
    N × N); what was computed is kept, so that many methods can be compared at the cost of one forward.

    Args:
        run: the forward of some inputs; returns its trace and the module's output. None for a chain.
        model: what ran, where it can run again (gradients, masking); None for what was captured before.
        inputs: keyword arguments of the forward.
        picture: what was looked at, upright RGB; None where it is not known.
        modality: "image" or "text", where that is known without looking at the layouts.
        expected: the layout that model and inputs promise, for layers that have none.
        chain: the one layer, where no forward was seen.
        layout_choice: the layout that was given by hand; None where it is to be found.
        name: of the model, for errors and captions.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], tuple[Trace, Any]] | None,
        name: str,
        model: Model | None = None,
        inputs: Mapping[str, Any] | None = None,
        picture: PIL.Image.Image | None = None,
        modality: Modality | None = None,
        expected: TokenLayout | None = None,
        chain: AttentionChain | None = None,
        layout_choice: LayoutChoice = None,
    ) -> None:
        self._forward, self.name, self._model, self._inputs = run, name, model, inputs
        self.picture, self._modality, self._expected, self._chain = picture, modality, expected, chain
        self.layout_choice = layout_choice
        self._kept: dict[Any, Any] = {}

    @cached_property
    def _ran(self) -> tuple[Trace, Any]:
        if self._forward is None:
            raise InputError("this needs what a forward left, and a chain alone was given; give tr.observe its trace")
        return self._forward(self._inputs or {})

    @property
    def trace(self) -> Trace:
        """All attention of the forward."""
        return self._ran[0]

    @property
    def output(self) -> Any:
        """What the module returned, without gradients; None for what was captured before."""
        return self._ran[1]

    @property
    def model(self) -> Model:
        """The model, for what needs another forward.

        Raises:
            InputError: the observation was made from attention that was captured before.
        """
        if self._model is None:
            raise InputError(
                f"this needs another forward, and {self.name} was captured before; observe the source with its model: "
                "tr.observe(source, model=…)"
            )
        return self._model

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Keyword arguments of the forward, a batch of one.

        Raises:
            InputError: as ``model``.
        """
        self.model  # noqa: B018  raises where there is none
        return cast("Mapping[str, Any]", self._inputs)

    @property
    def can_run(self) -> bool:
        """Whether the model is there to run again; not so for what was captured before."""
        return self._model is not None

    def again(self, inputs: Mapping[str, Any]) -> Observation:
        """The same model on other inputs, such as a changed picture: read in the same way, layers included.

        Raises:
            InputError: as ``model``.
        """
        given = self.name, self.model, inputs, None, self._modality, self._expected, None, self.layout_choice
        return Observation(self._forward, *given)

    @cached_property
    def _chains(self) -> Seen:
        if self._chain is not None:
            return {"chain": _of_one_input(self._chain, None, "chain", "take one by indexing the chain")}, {}
        return _square_chains(
            self.trace, self._expected, self._modality, _TAKE_ONE if self._inputs is None else _GIVE_ONE
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose attention is a chain on this source, in order; over the picture, where one is.

        A module that ran several times (ALBERT) is several layers: "name", "name#2", …
        """
        return tuple(self._chains[0])

    @property
    def skipped(self) -> Mapping[str, str]:
        """Name → why a layer is not among ``layers``."""
        return self._chains[1]

    @cached_property
    def modality(self) -> Modality:
        """What was read: "image" where the layers know a picture's patches, otherwise "text"."""
        if self._modality is not None:
            return self._modality
        return "image" if any(_has_picture(chain.layout) for chain in self._chains[0].values()) else "text"

    @cached_property
    def layout(self) -> TokenLayout:
        """Which token is what, of the first layer, CLS and registers included.

        Raises:
            LayoutError: unknown.
        """
        layout = self._chains[0][self.layers[0]].layout
        if layout is None:
            raise self._no_layout(self.layers[0])
        return layout

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches.

        Raises:
            LayoutError: no picture, or a video.
        """
        grid = self.layout.grids[self.layout.picture]
        if len(grid) != 2:
            raise LayoutError(f"the grid is {grid}, frames of a video; expected (rows, columns) of one picture")
        return grid

    @property
    def patches(self) -> range:
        """Indices of the patches among all tokens of the model.

        Raises:
            LayoutError: no picture, or patches that do not follow each other row by row.
        """
        return self.layout.range(self.layout.picture)

    @property
    def picture_layout(self) -> TokenLayout:
        """The layout of the patches alone."""
        return TokenLayout({"image": math.prod(self.grid)}, {"image": self.grid})

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture; of what the model was given, or one pixel a patch, where it is not known."""
        if self.picture is not None:
            return self.picture.height, self.picture.width
        for value in (self._inputs or {}).values():
            if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4:
                return int(value.shape[-2]), int(value.shape[-1])
        return self.grid

    def layer(self, layer: Layer = None) -> str:
        """The name of one of ``layers``; see ``tokenrank.select.Layer``.

        Raises:
            NotFoundError: none fits, or several do.
        """
        return layer_of(layer, self.layers)

    def several_layers(self, layers: Layers = None) -> tuple[str, ...]:
        """Names of some of ``layers``; all where None."""
        return self.layers if layers is None else layers_of(layers, self.layers)

    def head_chains(self, layer: Layer = None, tokens: Tokens = None) -> AttentionChain:
        """A layer, head by head, (heads, N, N), nothing materialised.

        Args:
            layer: see ``tokenrank.select.Layer``.
            tokens: see ``tokenrank.select.Tokens``; rows are renormalised over what stays. The patches of a picture
                where None, so that CLS and registers are dropped as in the paper's vision transformers.

        Raises:
            NotFoundError: no such layer or span. LayoutError: it is unknown which tokens they are.
        """
        name = self.layer(layer)
        kept = self._tokens(name, tokens)
        return self.keep(("heads", name, kept), lambda: self._head_chains(name, kept, tokens))

    def lambda2(self, layer: Layer = None, tokens: Tokens = None) -> Lambda2:
        """|λ2| of every head of ``head_chains(layer, tokens)``, (heads,), with certificate."""
        name = self.layer(layer)
        key = "lambda2", name, self._tokens(name, tokens)
        return self.keep(key, lambda: self.head_chains(name, tokens).lambda2())

    def head_weights(self, layer: Layer = None, heads: Heads = HEADS, tokens: Tokens = None) -> Tensor:
        """What each head of a layer counts for, (heads,) in float64 on the CPU, sum one.

        Raises:
            NotFoundError, InputError: no such layer, head or choice of heads.
        """
        chains, chosen = self.head_chains(layer, tokens), checked_heads(heads)
        moduli = self.lambda2(layer, tokens).values if chosen == "lambda2" else None
        return head_weights(heads, moduli, chains.batch[-1], self.layer(layer))

    def chain(self, layer: Layer = None, heads: Heads = HEADS, tokens: Tokens = None) -> AttentionChain:
        """A layer as one chain, (N, N): its heads mixed, on the patches of a picture or all tokens of a text.

        Args:
            layer: see ``tokenrank.select.Layer``; two thirds up the stack where None.
            heads: see ``tokenrank.select.Heads``; each by its |λ2| on these tokens by default.
            tokens: see ``tokenrank.select.Tokens``.

        Raises:
            NotFoundError: no such layer, head or span. InputError: another choice of heads.
            LayoutError: it is unknown which tokens are the picture.
        """
        name = self.layer(layer)
        kept = self._tokens(name, tokens)
        chosen = checked_heads(heads)
        key = "chain", name, chosen, kept
        if key not in self._kept:
            moduli = self.lambda2(name, tokens).values if chosen == "lambda2" else None
            one = _kept_small(mixed(self.head_chains(name, tokens), heads, moduli, name))
            caption = f"{self.name}, {self.describe(name, heads, tokens)}"
            self._kept[key] = AttentionChain.from_operator(one.operator, one.layout, self._picture(name), caption)
        return cast("AttentionChain", self._kept[key])

    def features(self, layer: Layer = -1, what: Literal["k", "q"] = "k") -> Tensor:
        """Keys (or queries) of the patches, heads side by side, float32 (P, heads · d); the last layer by default.

        Raises:
            CaptureError: only the weights of the layer were seen. LayoutError: it is unknown where the patches are.
        """
        name = self.layer(layer)
        record = _records(self.trace)[name]
        tensor = {"k": record.k, "q": record.q}[what]
        if tensor is None:
            raise CaptureError(
                f"layer {name!r} was seen as weights alone, expected queries and keys; load the model with sdpa"
            )
        if record.windows is not None or tensor.shape[:-3].numel() != 1:
            raise CaptureError(
                f"layer {name!r} attends within windows, {tuple(tensor.shape[:-3])} of them, so that its features do "
                "not lie on one grid; take another layer or model"
            )
        layout = self._chains[0][name].layout
        if layout is None:
            raise self._no_layout(name)
        heads = tensor.reshape(-1, *tensor.shape[-2:])
        return heads[:, layout.indices(layout.picture)].float().transpose(0, 1).flatten(1)

    def map(self, values: Tensor, layer: Layer = None) -> TokenMap:
        """A map of the patches from values (P,).

        Args:
            values: one number a patch, row by row.
            layer: the layer that they are of, on whose grid they lie; it is told in the caption. None for values of
                several layers.

        Raises:
            InputError: no tensor of one number a patch.
        """
        name = self.layer(layer)
        layout = self._chains[0][name].layout
        if layout is None:
            raise self._no_layout(name)
        grid = layout.grids[layout.picture]
        if not isinstance(values, Tensor) or values.shape != (math.prod(grid),):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"values are {found}, expected a tensor of shape ({math.prod(grid)},): one number for each of the "
                f"{' × '.join(map(str, grid))} patches, row by row"
            )
        patches = TokenLayout({"image": math.prod(grid)}, {"image": grid})
        return TokenMap(values, patches, picture=self.picture, caption="" if layer is None else self._place(name))

    def keep(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make()`` returned when ``key`` was first asked."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("T", self._kept[key])

    def describe(self, layer: Layer = None, heads: Heads | Literal["each"] = HEADS, tokens: Tokens = None) -> str:
        """The choice in words: "layer 3 of 6 (model.layer.3.attention), heads lambda2, tokens image"."""
        name = self.layer(layer)
        if self._chain is not None and not self._chain.batch:
            return self._chain.caption or "the chain as it was given"
        chosen = heads if isinstance(heads, str) else f"{heads}"
        kept = self._default_tokens(name) if tokens is None else tokens
        if not isinstance(kept, str):
            spans = all(isinstance(span, str) for span in kept)
            kept = "+".join(map(str, kept)) if spans else f"{len(kept)} chosen"
        return f"{self._place(name)}, heads {chosen}, tokens {kept}"

    def _place(self, name: str) -> str:
        return f"layer {self.layers.index(name)} of {len(self.layers)} ({name})"

    def __repr__(self) -> str:
        if "_chains" not in self.__dict__:
            return f"Observation({self.name!r}, not run yet)"
        name = self.layers[default_layer(len(self.layers))]
        many = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        return f"Observation({self.name!r}, {self.modality}, {many}, {name!r} by default)"

    def _repr_html_(self) -> str:
        if "_chains" not in self.__dict__:
            return panel(f"Observation by {self.name}", note("not run yet: the first question runs the model"))
        rows = [(place, name, f"{chain.batch[-1]} heads", chain.layout or f"{chain.num_tokens} tokens")
                for place, (name, chain) in enumerate(self._chains[0].items())]  # fmt: skip
        default = self.describe()
        return panel(
            f"Observation by {self.name}", table(rows, ("", "layer", "", "tokens")), note(f"default: {default}")
        )

    def _head_chains(self, name: str, kept: tuple[int, ...] | None, tokens: Tokens) -> AttentionChain:
        chain = self._chains[0][name]
        part = arranged(chain if kept is None else chain.restrict(kept))
        caption = f"{self.name}, {self.describe(name, 'each', tokens)}"
        return AttentionChain.from_operator(part.operator, part.layout, self._picture(name), caption)

    def _picture(self, name: str) -> PIL.Image.Image | None:
        """The picture, for those layers that see it."""
        return self.picture if _has_picture(self._chains[0][name].layout) else None

    def _default_tokens(self, name: str) -> str:
        if self.modality == "text":
            return "all"
        layout = self._chains[0][name].layout
        if layout is None:
            raise self._no_layout(name)
        return layout.picture

    def _tokens(self, name: str, tokens: Tokens) -> tuple[int, ...] | None:
        chain = self._chains[0][name]
        chosen = self._default_tokens(name) if tokens is None else tokens
        return tokens_of(chosen, chain.layout, chain.num_tokens, name)

    def _no_layout(self, name: str) -> LayoutError:
        count = self._chains[0][name].num_tokens
        return LayoutError(
            f"which of the {count} tokens of {name!r} are the picture is unknown; look at all of them with "
            "tokens='all' (--tokens all), or give the layout: tr.observe(…, "
            "layout=tr.TokenLayout.image(rows, columns)), with cls_tokens=0 where there is no CLS"
        )


_TAKE_ONE = "take one, with trace.select(sample=0) or trace.select(branch=…)"
_GIVE_ONE = (
    "give one input, a batch of one; or run the model inside tr.capture and give tr.observe one of the trace, "
    "trace.select(sample=0) or trace.select(branch=…)"
)


def _square_chains(trace: Trace, expected: TokenLayout | None, modality: Modality | None, cure: str) -> Seen:
    """Name → chain (heads, N, N) of every layer that has one; and why others have none.

    Where layers look at a picture, those that do not are left out: the text of a dual encoder, a pooling head.
    """
    chains: dict[str, AttentionChain] = {}
    skipped: dict[str, str] = {}
    errors: list[TokenRankError] = []
    for name, record in _records(trace).items():
        try:
            chains[name] = _of_one_input(trace.chain_of(record), expected, name, cure)
        except (CaptureError, LayoutError) as error:
            skipped[name] = str(error)
            errors.append(error)
    if not chains:
        raise errors[0] if errors else CaptureError("the trace is empty; run the model inside tr.capture")
    seeing = {name for name, chain in chains.items() if _has_picture(chain.layout)}
    if seeing and modality != "text":
        skipped |= {name: "its tokens hold no picture" for name in chains if name not in seeing}
        chains = {name: chain for name, chain in chains.items() if name in seeing}
    return chains, skipped


def _records(trace: Trace) -> dict[str, AttentionRecord]:
    """Records by name; of layers that share one module each call is a layer."""
    calls: dict[str, int] = {}
    named: dict[str, AttentionRecord] = {}
    for record in trace.records:
        calls[record.name] = calls.get(record.name, 0) + 1
        named[record.name if calls[record.name] == 1 else f"{record.name}#{calls[record.name]}"] = record
    return named


def _of_one_input(chain: AttentionChain, expected: TokenLayout | None, name: str, cure: str) -> AttentionChain:
    """The chain as (heads, N, N), with a layout where one is known."""
    operator, layout = chain.operator, chain.layout
    if chain.batch[:-1].numel() != 1:
        raise CaptureError(
            f"the attention of {name!r} has leading dimensions {tuple(chain.batch)}, expected (1, heads) or heads "
            f"alone: several inputs, windows or branches apart; {cure}"
        )
    if len(chain.batch) != 1:
        operator = operator.reshape(chain.batch[-1] if chain.batch else 1)
    if layout is None and expected is not None and expected.num_tokens == chain.num_tokens:
        layout = expected
    return AttentionChain.from_operator(operator, layout)


def _has_picture(layout: TokenLayout | None) -> bool:
    return layout is not None and len(layout.grids) == 1


def _kept_small(chain: AttentionChain) -> AttentionChain:
    if chain.num_tokens > DENSE_TOKENS:
        return chain
    return AttentionChain(chain.operator.to_dense(torch.float64), chain.layout)
