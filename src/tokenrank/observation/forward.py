"""The forward behind an observation: what ran on which inputs, once, and which of its layers are chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar, cast

import PIL.Image
from typing_extensions import Self

from ..chain import AttentionChain
from ..errors import InputError
from ..layout import LayoutChoice, TokenLayout
from ..models import Modality, Model, Sound
from ..progress import doing
from ..trace import Trace
from ..trace.one_input import TAKE_ONE, of_one_input
from .layers import GIVE_ONE, Seen, has_picture, has_sound, square_chains

T = TypeVar("T")


class ObservedForward:
    """One source, one model, one forward; a part of ``Observation``. The forward runs when something is first asked.

    Args:
        run: the forward of some inputs; returns its trace and the module's output. None for a chain.
        name: of the model, for errors and captions.
        model: what ran, where it can run again (gradients, masking); None for what was captured before.
        inputs: keyword arguments of the forward.
        picture: what was looked at, upright RGB; None where it is not known.
        modality: "image", "text" or "audio", where that is known without looking at the layouts.
        expected: the layout that model and inputs promise, for layers that have none.
        chain: the one layer, where no forward was seen.
        layout_choice: the layout that was given by hand; None where it is to be found.
        sound: what was listened to; None where there is none.
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
        sound: Sound | None = None,
    ) -> None:
        self._forward, self.name, self._model, self._inputs = run, name, model, inputs
        self.picture, self._modality, self._expected, self._chain = picture, modality, expected, chain
        self.layout_choice, self.sound = layout_choice, sound
        self._kept: dict[Any, Any] = {}

    @cached_property
    def _ran(self) -> tuple[Trace, Any]:
        if self._forward is None:
            raise InputError("this needs what a forward left, and a chain alone was given; give tr.observe its trace")
        with doing("running the model"):
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

    def again(self, inputs: Mapping[str, Any]) -> Self:
        """The same model on other inputs, such as a changed picture: read in the same way, layers included.

        Raises:
            InputError: as ``model``.
        """
        given = self.name, self.model, inputs, None, self._modality, self._expected, None, self.layout_choice
        return type(self)(self._forward, *given, sound=self.sound)

    @cached_property
    def _chains(self) -> Seen:
        if self._chain is not None:
            return {"chain": of_one_input(self._chain, None, "chain", "take one by indexing the chain")}, {}
        return square_chains(self.trace, self._expected, self._modality, TAKE_ONE if self._inputs is None else GIVE_ONE)

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
        """What was read: "image" or "audio" where the layers know patches or frames, otherwise "text"."""
        if self._modality is not None:
            return self._modality
        layouts = [chain.layout for chain in self._chains[0].values()]
        return "image" if any(map(has_picture, layouts)) else "audio" if any(map(has_sound, layouts)) else "text"

    def keep(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make()`` returned when ``key`` was first asked."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast("T", self._kept[key])
