"""The version of diffusers that has guiders."""

from __future__ import annotations

from ...errors import MissingExtraError

OLDEST = "0.36"
_CURE = f"pip install -U 'tokenrank[diffusers]' 'diffusers>={OLDEST}'"


def require_guiders() -> None:
    """Refuse to go on without the guiders of diffusers.

    Raises:
        MissingExtraError: diffusers is missing, cannot be imported, or is older than 0.36.
    """
    wanted = f"tokenrank.tasks.Guider needs diffusers {OLDEST} or newer"
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtraError(f"{wanted}, which cannot be imported ({error}); {_CURE}") from error
    found = str(diffusers.__version__)
    if _version(found) < _version(OLDEST):
        raise MissingExtraError(f"{wanted}, found {found}; {_CURE}")
    try:
        from diffusers.guiders import BaseGuidance  # noqa: F401
        from diffusers.modular_pipelines import BlockState  # noqa: F401
    except ImportError as error:  # a library that these need is missing
        raise MissingExtraError(f"{wanted}; the guiders of {found} cannot be imported ({error}); {_CURE}") from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
