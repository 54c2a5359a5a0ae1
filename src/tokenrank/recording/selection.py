"""Selection of attention calls by layer and step, decided before anything is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from ..errors import InputError, nearest

LayerChoice = str | int | Callable[[str], bool]
LayerSelection = LayerChoice | Iterable[LayerChoice] | None
StepSelection = int | Iterable[int] | Callable[[int], bool] | None


class Selection:
    """A filter over names, places and steps.

    Args:
        layers: exact names, names of a module that holds the attention ("encoder.layer.8" for
            "encoder.layer.8.attention"), globs, places among the attention calls of one forward
            (negative from the last), predicates on the name, or an iterable of those; None for all.
        steps: the forward calls to keep, 0-based: a number, several, or a predicate; None for all.

    Raises:
        InputError: a filter of another type, or an empty one.
    """

    def __init__(self, layers: LayerSelection = None, steps: StepSelection = None) -> None:
        self._entries = None if layers is None else _layer_entries(layers)
        self._matched: set[int] = set()
        self._steps = None if steps is None else _step_rule(steps)
        self._from_end = {e for e in self._entries or () if isinstance(e, int) and e < 0}

    @property
    def window(self) -> int:
        """How many of the last calls a negative place can mean; 0 without one."""
        return -min(self._from_end, default=0)

    def step(self, step: int) -> bool:
        """Whether this forward call is wanted."""
        return self._steps is None or self._steps(step)

    def decide(self, name: str, place: int, step: int) -> bool | None:
        """Whether to keep a call; None where that depends on how many calls will follow."""
        wanted = True
        if self._entries is not None:
            hits = [i for i, entry in enumerate(self._entries) if _matches(entry, name, place)]
            self._matched.update(hits)
            wanted = bool(hits)
        if not self.step(step):
            return False
        return True if wanted else (None if self._from_end else False)

    def settle(self, place: int, total: int) -> bool:
        """Whether the undecided call at ``place`` is kept, now that there were ``total``."""
        return place - total in self._from_end

    def close(self, total: int) -> None:
        """Take note of how many calls a forward made."""
        for i, entry in enumerate(self._entries or ()):
            if isinstance(entry, int) and entry < 0 and total + entry >= 0:
                self._matched.add(i)

    def unmatched(self, names: Sequence[str], total: int) -> list[str]:
        """One line for every entry that met no call, given the calls' names and their number a forward."""
        lines = []
        for i, entry in enumerate(self._entries or ()):
            if i in self._matched:
                continue
            if isinstance(entry, int):
                lines.append(f"layer {entry}: a forward made {total} attention calls, expected {-total} … {total - 1}")
            elif isinstance(entry, str):
                lines.append(f"layer {entry!r}: {nearest(entry, names)}")
            else:
                lines.append(f"layers={entry!r} accepted none of {len(names)} names such as {names[:3]}")
        return lines


def matches_name(pattern: str, name: str) -> bool:
    """Whether a name, the name of a module above it, or a glob means ``name``."""
    return (
        pattern == name
        or name.startswith(pattern + ".")
        or (len(pattern) <= _LONGEST and (fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*")))
    )


_LONGEST = 1000  # characters of a glob: the time to read it grows with their square


def _matches(entry: LayerChoice, name: str, place: int) -> bool:
    if isinstance(entry, str):
        return matches_name(entry, name)
    if isinstance(entry, int):
        return entry == place
    return bool(entry(name))


def _layer_entries(layers: object) -> list[LayerChoice]:
    entries: list[LayerChoice] = []
    for entry in several(layers):
        number = whole(entry)
        if number is not None:
            entries.append(number)
        elif isinstance(entry, str) or callable(entry):
            entries.append(entry)
        else:
            raise InputError(
                f"layers holds {entry!r}, expected names, globs, whole numbers or functions of the name, "
                "such as 'encoder.layer.8', 'encoder.*', -1"
            )
    if not entries:
        raise InputError("layers is empty, expected at least one name, glob or number; leave it out for all layers")
    return entries


def _step_rule(steps: object) -> Callable[[int], bool]:
    if callable(steps):
        return steps
    wanted: set[int] = set()
    for entry in several(steps):
        number = whole(entry)
        if number is None or number < 0:
            raise InputError(
                f"steps holds {entry!r}, expected whole numbers ≥ 0 (forward calls, counted from 0), "
                "such as 3, range(10), or a function of the number"
            )
        wanted.add(number)
    if not wanted:
        raise InputError("steps is empty, expected at least one forward call; leave it out for all")
    return wanted.__contains__


def several(value: object) -> list[object]:
    """A list of what was given: the entries of an iterable, or the one thing."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def whole(value: object) -> int | None:
    """A Python integer from any library's, or None for anything else; a bool is not a number here."""
    index = getattr(value, "__index__", None)
    return None if index is None or isinstance(value, bool) else int(index())
