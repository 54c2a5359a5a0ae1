"""Answers over tokens, with the layout of the chain that gave them: each can be shown as maps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..errors import NotFoundError, nearest
from ..html import beside, note, panel, table
from ..layout import TokenLayout
from ..markov import Absorption as _Absorption
from ..markov import Certificate, Result
from ..markov import Classes as _Classes
from ..markov import EntropyRate as _EntropyRate
from ..markov import FirstPassage as _FirstPassage
from ..markov import Fundamental as _Fundamental
from ..markov import HittingTimes as _HittingTimes
from ..markov import Metastable as _Metastable
from ..markov import QuasiStationary as _QuasiStationary
from ..markov import Sinks as _Sinks
from ..markov import Spectrum as _Spectrum
from ..markov import StationaryDistributions as _StationaryDistributions
from ..markov.tables import answer_table, numbers
from .circle import unit_circle
from .core import Core
from .drawing import MEDIUM, drawn
from .token_map import TokenMap

MODES = 6  # slow modes that a notebook shows as maps

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, repr=False)
class OnTokens(Result):
    """An answer with numbers for every token, and the layout that says which token is what.

    Attributes:
        layout: which token is what, or None.
        picture: what the model saw, or None.
        caption: where the chain comes from, in words.
    """

    if TYPE_CHECKING:  # a field of every answer, before these
        certificate: Certificate

    layout: TokenLayout | None = None
    picture: Image | None = field(default=None, compare=False)
    caption: str = field(default="", compare=False)

    def map(self, name: str = "") -> TokenMap:
        """Numbers over tokens as maps, tokens last: (*batch, N, T) becomes T maps a chain, (*batch, T, N).

        Args:
            name: which of the answer's fields; the first that has a number for every token by default.

        Raises:
            NotFoundError: a field that has none, or that was not asked for.

        Example:
            >>> import tokenrank as tr
            >>> layout = tr.TokenLayout.image(1, 3, cls_tokens=0)
            >>> chain = tr.AttentionChain([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]], layout)
            >>> chain.absorption([0, 2]).map()
            TokenMap(2 maps, 3 tokens (image 1 × 3), 0 … 1; converged, error ≤ ... (proved ...), 1 apply, ...)
            >>> chain.hitting_times(0).map().grid()
            tensor([[0., 6., 8.]], dtype=torch.float64)
        """
        axes = {field: axis for field, axis in self.OVER_TOKENS if getattr(self, field) is not None}
        name = name or next(iter(axes))
        if name not in axes:
            raise NotFoundError(f"no numbers over tokens {name!r} in {type(self).__name__}; {nearest(name, axes)}")
        values = getattr(self, name).movedim(axes[name], -1)
        values = values if values.is_floating_point() else values.double()
        certificate: Certificate = vars(self).get(f"{name}_certificate", self.certificate)
        return TokenMap(values, self.layout, certificate.expand(*values.shape[:-1]), self.picture, self.caption)

    def _repr_html_(self) -> str:
        if self.layout is None:
            return super()._repr_html_()
        maps = self.map()
        if maps.values.numel() and bool((maps.values == maps.values.flatten()[0]).all()):
            return super()._repr_html_()  # the same for every token: nothing to see
        body, told = drawn(maps, "shared", MEDIUM)
        return panel(
            f"{type(self).__name__} of {self.shape_words()}",
            beside(body, self.table_html()),
            note(self.caption_words()),
            note(f"{self._shown()}: {told}"),
            note(self.worth_words()),
        )

    def _shown(self) -> str:
        """What the maps are of."""
        name = next(field for field, _ in self.OVER_TOKENS if getattr(self, field) is not None)
        return dict(self.LABELS).get(name, name.replace("_", " "))


Answer = TypeVar("Answer", bound=OnTokens)


def placed(kind: type[Answer], numbers: Result, chain: Core) -> Answer:
    """An answer of ``tokenrank.markov`` with what its chain knows of its tokens."""
    known: dict[str, Any] = {"layout": chain.layout, "picture": chain.picture, "caption": chain.caption}
    return kind(**vars(numbers), **known)


@dataclass(frozen=True, repr=False)
class Absorption(OnTokens, _Absorption):
    """Where walks end; see ``tokenrank.markov.Absorption``."""


@dataclass(frozen=True, repr=False)
class Classes(OnTokens, _Classes):
    """Communicating classes; see ``tokenrank.markov.Classes``."""


@dataclass(frozen=True, repr=False)
class EntropyRate(OnTokens, _EntropyRate):
    """Entropy of the next bounce, and π; see ``tokenrank.markov.EntropyRate``."""


@dataclass(frozen=True, repr=False)
class StationaryDistributions(OnTokens, _StationaryDistributions):
    """All extreme stationary distributions; see ``tokenrank.markov.StationaryDistributions``."""


@dataclass(frozen=True, repr=False)
class FirstPassage(OnTokens, _FirstPassage):
    """Expected bounces between tokens; see ``tokenrank.markov.FirstPassage``."""


@dataclass(frozen=True, repr=False)
class Fundamental(OnTokens, _Fundamental):
    """Z x and its parts; see ``tokenrank.markov.Fundamental``."""


@dataclass(frozen=True, repr=False)
class HittingTimes(OnTokens, _HittingTimes):
    """When and whether the walk enters a set of tokens; see ``tokenrank.markov.HittingTimes``."""


@dataclass(frozen=True, repr=False)
class Metastable(OnTokens, _Metastable):
    """Metastable states; see ``tokenrank.markov.Metastable``."""


@dataclass(frozen=True, repr=False)
class QuasiStationary(OnTokens, _QuasiStationary):
    """Where the walk is before it ends; see ``tokenrank.markov.QuasiStationary``."""


@dataclass(frozen=True, repr=False)
class Sinks(OnTokens, _Sinks):
    """Attention sinks; see ``tokenrank.markov.Sinks``."""


@dataclass(frozen=True, repr=False)
class Spectrum(OnTokens, _Spectrum):
    """The slow end of the spectrum; see ``tokenrank.markov.Spectrum``."""

    def _repr_html_(self) -> str:
        parts = [unit_circle(self.values), self._moduli()]
        told = ""
        if self.layout is not None and self.values.numel() == self.values.shape[-1] > 1:
            modes = self.map("right")
            slow = replace(modes, values=modes.values.reshape(-1, modes.values.shape[-1])[1 : 1 + MODES])
            body, words = drawn(slow, "each")
            told = f"below: right subspace without its constant vector, orthonormal, signs by chance; {words}"
            parts.append(body)
        return panel(
            f"Spectrum of {self.shape_words()}",
            beside(*parts[:2]),
            *parts[2:],
            note(self.caption_words()),
            note(told),
            note(self.worth_words()),
        )

    def _moduli(self) -> str:
        """The eigenvalues of a single chain one by one; of several the largest but one, and the gap."""
        if self.values.numel() == self.values.shape[-1]:
            one = self if not self.batch else self[(0,) * len(self.batch)]
            rows = [
                (f"λ{place + 1}", numbers(value), numbers(value.abs()), numbers(time))
                for place, (value, time) in enumerate(zip(one.values, one.timescales, strict=True))
            ]
            return table(rows, ("", "λ", "|λ|", "timescale, bounces"))
        second = self.values[..., 1].abs() if self.values.shape[-1] > 1 else torch.zeros(self.batch)
        fields = {"second": second, "gap": self.gap, "count": self.count}
        return answer_table(fields, self.batch, {"second": "|λ2|", "gap": "gap 1 − |λ2|", "count": "eigenvalues"})
