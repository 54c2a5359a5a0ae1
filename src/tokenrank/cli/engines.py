"""Who works through many images, as typed: an engine and the size of its workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..workers.names import ENGINES
from .meaning import choice_of, whole_of
from .report import MisuseError, misuse

if TYPE_CHECKING:
    from ..workers import Engine


def chosen_engine(
    engine: str,
    address: str | None,
    workers: str | None,
    cpus: str | None,
    gpus: str | None,
    runtime_env: str | None,
) -> Callable[[], Engine]:
    """What makes the engine that was typed; nothing heavy is imported before it is called.

    Raises:
        MisuseError: here what is wrong by itself, there what the engine refuses.
    """
    choice_of(engine, "engine", ENGINES)
    typed: dict[str, Any] = {
        "address": address,
        "workers": None if workers is None else whole_of(workers, "workers", 1),
        "cpus": _share(cpus, "cpus"),
        "gpus": _share(gpus, "gpus"),
        "runtime_env": None if runtime_env is None else _environment(runtime_env),
    }
    if engine == "local" and (odd := [name for name, value in typed.items() if value is not None]):
        raise MisuseError(f"--{odd[0].replace('_', '-')} goes with --engine ray")

    def make() -> Engine:
        from ..workers import engine_of

        with misuse():
            return engine_of(engine, **typed)

    return make


def _share(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise MisuseError(f"{option} = {printable(text)}, expected a number such as 0.25, 1 or 4") from None


def _environment(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MisuseError(f"runtime-env = {printable(text)} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise MisuseError(f"runtime-env = {printable(text)}, expected a JSON object in braces")
    return found
