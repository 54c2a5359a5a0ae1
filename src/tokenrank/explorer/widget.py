"""The explorer as a widget of notebooks: what a reader chose in traits, bytes when they are asked for."""

from __future__ import annotations

import operator
import struct
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import InputError, require
from .blob import as_json, cut
from .module import joined
from .state import NAMES, checked, defaults, fitting

if TYPE_CHECKING:
    import anywidget
    import traitlets
else:
    anywidget, traitlets = require("anywidget", "notebook"), require("traitlets", "notebook")

MOST = 4_000_000
"""Bytes of a blob in one message; hosts cut the connection at about 10 MB."""


class RefusedError(InputError, traitlets.TraitError):
    """A value that the page does not have; traits are then as they were."""


def _trait() -> Any:
    return traitlets.Any().tag(sync=True)


class ExplorerWidget(anywidget.AnyWidget):
    """An explorer in a notebook; made by ``Explorer.widget()``.

    Traits, read or set, which move the page: ``sheet``, ``step``, ``layer``, ``head`` (a number, "lambda2" or
    "uniform"), ``starts`` (tokens), ``bounces`` (one more than the slider's last number for infinitely many),
    ``direction``, ``alpha``, ``without``, ``scale``, ``opacity``, ``smooth``, ``hide``, ``pieces``, ``colours``,
    ``tab``, ``theme``. A value that the page does not have raises ``InputError``.

    The page asks for bytes in ``want``, [[number, offset, length], …], and each is answered in ``part``: the number as
    uint32, then the bytes. ``held`` has from the start what is seen first, so that it needs no kernel.

    Args:
        index, parts: what is shown, as in ``Explorer``.
    """

    _esm = joined()

    index = traitlets.Unicode().tag(sync=True)
    held = traitlets.Bytes().tag(sync=True)
    places: Any = traitlets.List().tag(sync=True)
    want: Any = traitlets.List().tag(sync=True)
    part = traitlets.Bytes().tag(sync=True)

    sheet, step, layer, head, starts = _trait(), _trait(), _trait(), _trait(), _trait()
    bounces, direction, alpha, without, scale = _trait(), _trait(), _trait(), _trait(), _trait()
    opacity, smooth, hide, pieces, colours = _trait(), _trait(), _trait(), _trait(), _trait()
    tab, theme = _trait(), _trait()

    def __init__(self, index: Mapping[str, Any], parts: Sequence[bytes]) -> None:
        self._index, self._parts, self._answered, self._by_page = index, parts, set[int](), False
        places = first_places(index)
        super().__init__(
            index=as_json(index),
            held=b"".join(cut(parts, *place) for place in places),
            places=places,
            **defaults(index),
        )

    @property
    def state(self) -> dict[str, Any]:
        """All that a reader chose, by name; what a link holds."""
        return {name: getattr(self, name) for name in NAMES}

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take over what the page says."""
        self._by_page = True
        try:
            super().set_state(sync_data)
        finally:
            self._by_page = False

    def notify_change(self, change: Any) -> None:
        """Say in one message what a choice brings along."""
        with self.hold_sync() if change["name"] in NAMES else nullcontext():
            super().notify_change(change)

    @traitlets.validate(*NAMES)
    def _checked(self, proposal: Any) -> Any:
        # of several that are set at once each is checked beside the others
        state = {"sheet": self.sheet, "step": self.step, "layer": self.layer}
        try:
            return checked(self._index, state, proposal["trait"].name, proposal["value"])
        except InputError as error:
            raise RefusedError(str(error)) from None

    @traitlets.observe("sheet", "step", "layer")
    def _follow(self, change: Any) -> None:
        """Another sheet begins with its own step, layer and start, and another layer may have fewer heads."""
        if self._by_page:  # which has said all of it
            return
        known, state = self._index, self.state
        if change["name"] == "sheet":
            usual = defaults(known, self.sheet)
            state |= {name: usual[name] for name in ("step", "layer", "starts")}
        state |= fitting(known, state)
        with self.hold_trait_notifications():
            for name in ("step", "layer", "starts", "head"):
                setattr(self, name, state[name])

    @traitlets.observe("want")
    def _answer(self, change: Any) -> None:
        for ask in change["new"]:
            try:
                number, offset, length = map(operator.index, ask)
                if number in self._answered or not 0 < length <= MOST:
                    continue
                answer = struct.pack("<I", number) + cut(self._parts, offset, length)
            except (InputError, TypeError, ValueError, struct.error):
                continue  # nothing that the page asks; what comes behind it may be
            self._answered.add(number)
            self.part = answer


def first_places(index: Mapping[str, Any]) -> list[list[int]]:
    """[offset, length] of the first sheet's picture and thumbnails, and of the layer that is shown, as far as one
    message holds them."""
    state, sheet = defaults(index), index["sheets"][0]
    wanted = [sheet["picture"]["bytes"]] if sheet["picture"] else []
    wanted += [layer["thumbs"] for layer in sheet["layers"] if layer["thumbs"] and layer["step"] == state["step"]]
    shown = (state["step"], state["layer"])
    wanted += [a["stored"]["bytes"] for a in sheet["layers"] if a["stored"] and (a["step"], a["number"]) == shown]
    places: list[list[int]] = []
    for offset, length in wanted:
        if sum(place[1] for place in places) + length <= MOST:
            places.append([offset, length])
    return places
