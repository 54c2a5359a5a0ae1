"""Observation: one source read by one model, read once; what tasks, baselines, figures and commands ask of it."""

from __future__ import annotations

import math
from functools import cached_property
from importlib import import_module
from typing import Any, Literal, cast

import PIL.Image
import torch
from torch import Tensor

from ..chain import AttentionChain, TokenMap
from ..chain.arranged import arranged
from ..errors import InputError, LayoutError
from ..html import note, panel, table
from ..layout import TokenLayout
from ..markov import Lambda2
from ..models.images import is_pixels
from ..operators import from_features
from ..progress import doing
from ..recording import AttentionStates, keeping_states
from ..select import (
    HEADS,
    Heads,
    Layer,
    Layers,
    Tokens,
    checked_heads,
    head_weights,
    layer_of,
    layers_of,
    mixed,
    tokens_of,
)
from .features import NAMES, What, check_not_in_windows, checked_what, features_of_record, features_of_states
from .layers import has_picture, has_sound, records_by_name
from .spoken import Spoken
from .tokens import default_tokens, rows_of, tokens_words, unknown_layout

DENSE_TOKENS = 1600
"""A mixed chain of up to so many tokens is kept as a matrix (20 MB at most): it pays from the second question on."""


class Observation(Spoken):
    """What a model attended to in one picture, text or sound; made by ``tr.observe``.

    The forward runs once, when something is first asked. Chains stay what was recorded (queries and keys, nothing
    N × N); what was computed is kept, so that many methods can be compared at the cost of one forward.

    What ran, and its layers, are of ``ObservedForward``; the words of a sound of ``Spoken``.
    """

    @cached_property
    def layout(self) -> TokenLayout:
        """Which token is what, of the first layer, CLS and registers included.

        Raises:
            LayoutError: unknown.
        """
        return self._layout_of(self.layers[0])

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
            if is_pixels(value):
                return int(value.shape[-2]), int(value.shape[-1])
        return self.grid

    def layer(self, layer: Layer = None) -> str:
        """The name of one of ``layers``; see ``tokenrank.select.Layer``.

        Raises:
            NotFoundError: none fits, or several do.
        """
        return layer_of(layer, self.layers, self.modality)

    def several_layers(self, layers: Layers = None) -> tuple[str, ...]:
        """Names of some of ``layers``; all where None."""
        return self.layers if layers is None else layers_of(layers, self.layers, self.modality)

    def head_chains(self, layer: Layer = None, tokens: Tokens = None) -> AttentionChain:
        """A layer, head by head, (heads, N, N), nothing materialised.

        Args:
            layer: see ``tokenrank.select.Layer``.
            tokens: see ``tokenrank.select.Tokens``; rows are renormalised over what stays. Where None the
                patches of a picture, so that CLS and registers are dropped as in the paper's vision transformers;
                of a text all but special tokens: CLS and SEP get a quarter to half of all attention.

        Raises:
            NotFoundError: no such layer or span. LayoutError: it is unknown which tokens they are.
        """
        name = self.layer(layer)
        kept = self._tokens(name, tokens)
        return self.keep(("heads", name, kept), lambda: self._head_chains(name, kept, tokens))

    def lambda2(self, layer: Layer = None, tokens: Tokens = None) -> Lambda2:
        """|λ2| of every head of ``head_chains(layer, tokens)``, (heads,), with certificate; ``proved=False``."""
        name = self.layer(layer)
        key = "lambda2", name, self._tokens(name, tokens)
        return self.keep(key, lambda: self.head_chains(name, tokens).lambda2(proved=False))

    def head_weights(self, layer: Layer = None, heads: Heads = HEADS, tokens: Tokens = None) -> Tensor:
        """What each head of a layer counts for, (heads,) in float64 on the CPU, sum one.

        Raises:
            NotFoundError, InputError: no such layer, head or choice of heads.
        """
        chains, chosen = self.head_chains(layer, tokens), checked_heads(heads)
        moduli = self.lambda2(layer, tokens).values if chosen == "lambda2" else None
        return head_weights(heads, moduli, chains.batch[-1], self.layer(layer))

    def chain(self, layer: Layer = None, heads: Heads = HEADS, tokens: Tokens = None) -> AttentionChain:
        """A layer as one chain, (N, N): its heads mixed, on the patches of a picture or the words of a text.

        Args:
            layer: see ``tokenrank.select.Layer``; where None three quarters up the stack for pictures, the last
                for texts.
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

    def features(self, layer: Layer = -1, what: What = "k") -> Tensor:
        """Features of the patches, row by row, or of the words of a text: float32 (P, d); the last layer by default.

        Queries and keys are those of the forward. The first question for values or block outputs runs the model once
        more, keeps both of all layers (P · d numbers each), and costs nothing where it is not asked.

        Args:
            layer: see ``tokenrank.select.Layer``.
            what: "k" for keys, "q" for queries, "v" for values, heads side by side, (P, heads · d); "h" for the output
                of the block around the attention, as ``output_hidden_states`` of transformers has it but for a last
                norm (which module that is: ``tokenrank.recording.keeping_states``).

        Raises:
            CaptureError: the layer attends within windows, or hides what was asked for. InputError: another ``what``,
                or values and block outputs of what was captured before, which has no model.
            LayoutError: it is unknown where the patches are, or the block returns another grid than the attention's.
        """
        name, chosen = self.layer(layer), checked_what(what)
        record, layout = records_by_name(self.trace)[name], self._chains[0][name].layout
        check_not_in_windows(record, name)
        kept = self._tokens(name, None)
        if chosen == "k" or chosen == "q":
            features = features_of_record(record, chosen, name)
        else:
            features = features_of_states(self._states, record, chosen, name, layout)
        return features[rows_of(kept, layout, len(features))].float()

    def features_chain(self, layer: Layer = -1, what: What = "h", tau: float | None = None) -> AttentionChain:
        """The walk between patches that look alike to the model, (P, P): softmax(cos(f, f) / τ), never materialised.

        It is a chain like any other: bounces, TokenRank, modes and cuts of it can be asked for, and on it answers of
        the attention can be spread over what looks alike (``tr.tasks.arrival``).

        Args:
            layer: see ``tokenrank.select.Layer``; the last by default.
            what: see ``features``; block outputs by default.
            tau: temperature above 0; None for half the standard deviation of the picture's cosines.

        Raises:
            ChainError: a temperature that is not above 0. Otherwise as ``features``.
        """
        name = self.layer(layer)
        key = "features chain", name, checked_what(what), tau
        return self.keep(key, lambda: self._features_chain(name, checked_what(what), tau))

    def _features_chain(self, name: str, what: What, tau: float | None) -> AttentionChain:
        operator = from_features(self.features(name, what), tau)
        caption = f"{self.name}, {self.place(name)}, cosines of {NAMES[what]}, temperature {1 / operator.scale:.3g}"
        return AttentionChain.from_operator(operator, self.head_chains(name).layout, self._picture(name), caption)

    @cached_property
    def _states(self) -> list[AttentionStates]:
        """Values and block outputs of every attention call, by a forward of their own."""
        if not self.can_run:
            raise InputError(
                f"values and block outputs need another forward, and {self.name} was captured before; observe the "
                "source with its model, tr.observe(source, model=…), or take what='k' or 'q'"
            )
        with doing("running the model for its block outputs"), keeping_states(self.model.module) as kept:
            self.model.forward(self.inputs)
        return kept

    def map(self, values: Tensor, layer: Layer = None) -> TokenMap:
        """A map of the patches from values (P,).

        Args:
            values: one number a patch, row by row.
            layer: the layer that they are of, on whose grid they lie; it is told in the caption. None for values of
                several layers.

        Raises:
            InputError: no tensor of one number a patch. LayoutError: it is unknown where the patches are.
        """
        name = self.layer(layer)
        layout = self._layout_of(name)
        grid = layout.grids[layout.picture]
        if not isinstance(values, Tensor) or values.shape != (math.prod(grid),):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"values are {found}, expected a tensor of shape ({math.prod(grid)},): one number for each of the "
                f"{' × '.join(map(str, grid))} patches, row by row"
            )
        patches = TokenLayout({"image": math.prod(grid)}, {"image": grid})
        return TokenMap(values, patches, picture=self.picture, caption="" if layer is None else self.place(name))

    def describe(self, layer: Layer = None, heads: Heads | Literal["each"] = HEADS, tokens: Tokens = None) -> str:
        """The choice in words: "layer 3 of 0–5 (model.layer.3.attention), heads lambda2, tokens image"."""
        name = self.layer(layer)
        if self._chain is not None and not self._chain.batch:
            return self._chain.caption or "the chain as it was given"
        chosen = heads if isinstance(heads, str) else f"{heads}"
        kept = default_tokens(self._chains[0][name], self.modality, name) if tokens is None else tokens
        return f"{self.place(name)}, heads {chosen}, tokens {tokens_words(kept)}"

    def _layout_of(self, name: str) -> TokenLayout:
        chain = self._chains[0][name]
        if chain.layout is None:
            raise unknown_layout(name, chain.num_tokens)
        return chain.layout

    def place(self, name: str) -> str:
        """Where a layer stands, in words, counted from 0: "layer 9 of 0–11 (model.layer.9.attention)"."""
        return f"layer {self.layers.index(name)} of 0–{len(self.layers) - 1} ({name})"

    def explore(self, **options: Any) -> Any:
        """The observation as an explorer, in which attention walks where you click; see ``tr.explore``.

        Args:
            options: of ``tr.explore``: ``layers``, ``heads``, ``small``, ``alpha``, ``limit``, ``title``.

        Returns:
            An ``Explorer``, which shows itself in a notebook and is saved as one page.

        Raises:
            As ``tr.explore``.
        """
        return import_module("tokenrank.explorer").explore(self, **options)

    def __getstate__(self) -> dict[str, Any]:
        """What was computed is left out, but for the forward: it is found again when it is asked for."""
        return {**self.__dict__, "_kept": {}}

    def __repr__(self) -> str:
        if "_chains" not in self.__dict__:
            return f"Observation({self.name!r}, not run yet)"
        name = self.layer()
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
        """The picture, for those layers that see it; of those that hear a sound its waveform."""
        layout = self._chains[0][name].layout
        if self.sound is not None and has_sound(layout):
            return self.keep("waveform", self.sound.picture)
        return self.picture if has_picture(layout) else None

    def _tokens(self, name: str, tokens: Tokens) -> tuple[int, ...] | None:
        chain = self._chains[0][name]
        chosen = default_tokens(chain, self.modality, name) if tokens is None else tokens
        return tokens_of(chosen, chain.layout, chain.num_tokens, name)


def _kept_small(chain: AttentionChain) -> AttentionChain:
    if chain.num_tokens > DENSE_TOKENS:
        return chain
    return AttentionChain(chain.operator.to_dense(torch.float64), chain.layout)
