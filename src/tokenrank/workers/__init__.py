"""Workers: batches of work done in this process, or by the workers of a Ray cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .choice import engine_of
    from .engine import Engine, Local
    from .work import Done, Row, Work

__all__ = ["Done", "Engine", "Local", "Row", "Work", "engine_of"]

_HOMES = {
    "Done": "work",
    "Engine": "engine",
    "Local": "engine",
    "Row": "work",
    "Work": "work",
    "engine_of": "choice",
}


def __getattr__(name: str) -> Any:
    # on use, so that the process of ``attempts`` does not wait for PyTorch
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
