"""What a reader chose, seen from Python: the names of the page's state, their defaults, and what they may be.

The page corrects what it is given, since a link may be old; Python refuses, and says what would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, nearest
from ..select import whole_number

CHOICES: dict[str, tuple[Any, ...]] = {
    "direction": ("forward", "backward"),
    "without": ("none", "special", "sinks"),
    "scale": ("each", "shared"),
    "smooth": (False, True),
    "hide": (False, True),
    "pieces": (False, True),
    "colours": ("magma", "viridis", "greys"),
    "tab": ("walk", "heads", "chain", "groups"),
    "theme": (None, "dark", "light"),
}
ALPHAS = 0.5, 0.999
NAMES = (
    "sheet", "step", "layer", "head", "starts", "bounces", "direction", "alpha", "without", "scale", "opacity",
    "smooth", "hide", "pieces", "colours", "tab", "theme",
)  # fmt: skip
"""Of ``State`` in page/types.js; a sheet comes before what is of it."""


def defaults(index: Mapping[str, Any], number: int = 0) -> dict[str, Any]:
    """What a page shows at first: the deepest stored layer, its heads by |λ2|, two bounces from the sheet's start."""
    sheet = index["sheets"][number]
    stored = [layer for layer in sheet["layers"] if layer["stored"]] or sheet["layers"][:1]
    step = stored[-1]["step"] if stored else 0
    return {
        "sheet": number, "step": step, "layer": _deepest(sheet, step), "head": "lambda2", "starts": _start(sheet),
        "bounces": min(2, index["bounces"]), "direction": "forward", "alpha": index["alpha"], "without": "none",
        "scale": "each", "opacity": 0.85, "smooth": False, "hide": False, "pieces": False, "colours": "magma",
        "tab": "walk", "theme": None,
    }  # fmt: skip


def checked(index: Mapping[str, Any], state: Mapping[str, Any], name: str, value: Any) -> Any:
    """``value`` of one name as the page takes it.

    Args:
        index: of the page.
        state: of the page; a layer is one of its sheet and step.
        name: one of ``NAMES``.

    Raises:
        InputError: a value that the page does not have, with those that it has.
    """
    if name in CHOICES:
        return _choice(name, value)
    sheet = index["sheets"][state["sheet"]]
    if name == "sheet":
        return _number(name, value, len(index["sheets"]) - 1, "one sheet for each source")
    if name == "step":
        return _number(name, value, max(0, len(sheet["steps"]) - 1), "places among the steps of this sheet")
    if name == "layer":
        return _layer(index, value, sheet, state["step"])
    if name == "head":
        return _head(index, value, sheet, state)
    if name == "starts":
        return _starts(value, sheet["count"])
    if name == "bounces":
        return _number(name, value, index["bounces"] + 1, f"{index['bounces'] + 1} for infinitely many, TokenRank")
    if name == "alpha":
        return _alpha(value)
    if name == "opacity":
        return _share(name, value)
    raise InputError(f"no {name!r} in the state of an explorer; {nearest(name, NAMES)}")


def fitting(index: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Changes that make a state whole again once sheet, step or layer is another one."""
    sheet = index["sheets"][state["sheet"]]
    changes: dict[str, Any] = {}
    if not any(a["number"] == state["layer"] for a in _layers(sheet, state["step"]) if a["stored"]):
        changes["layer"] = _deepest(sheet, state["step"])
    if not all(token < sheet["count"] for token in state["starts"]):
        changes["starts"] = _start(sheet)
    try:
        _head(index, state["head"], sheet, {**state, **changes})
    except InputError:
        changes["head"] = "lambda2"
    return changes


def _start(sheet: Mapping[str, Any]) -> list[int]:
    """The sheet's start, with the other pieces of its word."""
    start: int = sheet["start"]
    for word in sheet["words"]:
        if word["first"] <= start < word["first"] + word["count"]:
            return list(range(word["first"], word["first"] + word["count"]))
    return [start]


def _layers(sheet: Mapping[str, Any], step: int) -> list[Mapping[str, Any]]:
    return [layer for layer in sheet["layers"] if layer["step"] == step]


def _deepest(sheet: Mapping[str, Any], step: int) -> int:
    """The deepest layer that is stored, or of all."""
    layers = _layers(sheet, step)
    chosen = [layer["number"] for layer in layers if layer["stored"]] or [layer["number"] for layer in layers] or [0]
    return int(chosen[-1])


def _cure(index: Mapping[str, Any], layer: int, head: int | str) -> str:
    return str(index["cure"]).replace("{layer}", str(layer)).replace("{head}", str(head))


def _choice(name: str, value: Any) -> Any:
    choices = CHOICES[name]
    if isinstance(value, str | bool | None) and value in choices:
        return value
    near = f"; {nearest(value, [c for c in choices if isinstance(c, str)])}" if isinstance(value, str) else ""
    raise InputError(f"{name} = {value!r}, expected one of {', '.join(map(repr, choices))}{near}")


def _number(name: str, value: Any, most: int, words: str) -> int:
    number = whole_number(value)
    if number is None or not 0 <= number <= most:
        raise InputError(f"{name} = {value!r}, expected a whole number from 0 to {most} ({words})")
    return number


def _layer(index: Mapping[str, Any], value: Any, sheet: Mapping[str, Any], step: int) -> int:
    number, layers = whole_number(value), _layers(sheet, step)
    stored = ", ".join(str(layer["number"]) for layer in layers if layer["stored"])
    found = next((layer for layer in layers if layer["number"] == number), None)
    if number is None or found is None:
        raise InputError(f"layer = {value!r}, expected one that is in the page: {stored}")
    if not found["stored"]:
        raise InputError(
            f"layer = {number} is a thumbnail in this page, expected one of {stored}; this brings it: "
            f"{_cure(index, number, 'all')}"
        )
    return number


def _head(index: Mapping[str, Any], value: Any, sheet: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value in ("lambda2", "uniform"):
        return value
    layer = next((a for a in _layers(sheet, state["step"]) if a["number"] == state["layer"]), None)
    count, number = len(layer["heads"]) if layer else 0, whole_number(value)
    if layer is None or number is None or not 0 <= number < count:
        raise InputError(
            f"head = {value!r}, expected 'lambda2' or 'uniform' for all of them, or a number from 0 to {count - 1}"
        )
    kept = layer["stored"]["heads"] if layer["stored"] else []
    if number not in kept:
        raise InputError(
            f"head = {number} of layer {layer['number']} is a thumbnail in this page, expected one of "
            f"{', '.join(map(str, kept))}; this brings it: {_cure(index, layer['number'], number)}"
        )
    return number


def _starts(value: Any, count: int) -> list[int]:
    try:
        tokens = [whole_number(token) for token in value]
    except TypeError:
        tokens = []
    if isinstance(value, str) or not tokens or any(token is None or not 0 <= token < count for token in tokens):
        raise InputError(
            f"starts = {value!r}, expected a list of tokens from 0 to {count - 1} (CLS and registers counted), "
            f"such as [{min(3, count - 1)}]"
        )
    return list(dict.fromkeys(token for token in tokens if token is not None))


def _alpha(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (ALPHAS[0] <= value <= ALPHAS[1] or value == 1):
        raise InputError(
            f"alpha = {value!r}, expected a probability from {ALPHAS[0]} to {ALPHAS[1]}, or 1 where the limit is unique"
        )
    return float(value)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{name} = {value!r}, expected a number from 0 to 1")
    return float(value)
