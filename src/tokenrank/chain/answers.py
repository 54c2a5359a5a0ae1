"""Answers over tokens, with the layout of the chain that gave them: each can be shown as maps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NotFoundError, nearest
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
from .core import Core
from .drawing import page
from .token_map import TokenMap

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
        maps = replace(self.map(), certificate=None, caption="")  # the table has said it
        return super()._repr_html_() + page(maps, f"Its {maps.shape_words()}")


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
