"""Four photographs to try things on; `LICENSES.md` beside them names author, source and rights."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ..errors import NotFoundError, nearest
from ..layout import Point

# A point on the main object of each: the emblem, the nose, the coffee, the rocket's middle.
_STARTS = {
    "astronaut": Point(0.30, 0.80),
    "chelsea": Point(0.57, 0.82),
    "coffee": Point(0.48, 0.36),
    "rocket": Point(0.505, 0.60),
}


def names() -> tuple[str, ...]:
    """Names of the photographs, in alphabetical order."""
    return tuple(_STARTS)


def path(name: str) -> Path:
    """The JPEG file of a photograph, 480 pixels on its long side or a little less.

    Raises:
        NotFoundError: no photograph of that name.
    """
    _check(name)
    return Path(str(resources.files(__name__) / f"{name}.jpg"))


def start(name: str) -> Point:
    """A point on the main object of a photograph, to start a walk from.

    Raises:
        NotFoundError: no photograph of that name.
    """
    _check(name)
    return _STARTS[name]


def _check(name: str) -> None:
    if name not in _STARTS:
        raise NotFoundError(f"no sample {name!r}; {nearest(name, _STARTS)}")
