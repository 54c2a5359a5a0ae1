"""Choice of an engine by its name, with the size and the number of workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import InputError, printable
from .engine import Engine, Local
from .names import ENGINES
from .on_ray import RayEngine


def engine_of(
    name: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    runtime_env: Mapping[str, Any] | None = None,
) -> Engine:
    """The engine of a name, with what was asked for.

    Args:
        name: "local" or "ray".
        address: of a running cluster: "auto", or HOST:PORT; None starts one on this machine, for as long as needed.
        workers: how many, each with a model of its own; None for as many as fit.
        cpus: processors of a worker, and threads of its torch; 1 where None.
        gpus: share of a GPU that a worker gets, such as 0.25, or whole ones; 0 where None.
        runtime_env: what Ray is to set up for the workers: "pip", "working_dir", "env_vars" …

    Raises:
        InputError: another name, options of a cluster for "local", numbers that mean nothing.
    """
    given = {"address": address, "workers": workers, "cpus": cpus, "gpus": gpus, "runtime_env": runtime_env}
    if name not in ENGINES:
        raise InputError(f"engine = {name!r}, expected one of {', '.join(map(repr, ENGINES))}")
    if name == "local":
        if asked := [f"{option} = {value!r}" for option, value in given.items() if value is not None]:
            raise InputError(f"{', '.join(asked)} for engine 'local', which is this process; choose engine 'ray'")
        return Local()
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers = {workers!r}, expected a whole number from 1, or None for as many as fit")
    if address is not None and (not isinstance(address, str) or not address.strip()):
        raise InputError(f"address = {address!r}, expected 'auto' or HOST:PORT, or None for a cluster on this machine")
    if address is not None and "://" in address:
        raise InputError(
            f"address = {printable(address)}, expected 'auto' or HOST:PORT. Ray's client cannot run this: start the "
            "command on a node of the cluster with address 'auto', or hand it in with 'ray job submit'"
        )
    if runtime_env is not None and not isinstance(runtime_env, Mapping):
        raise InputError(f"runtime_env is a {type(runtime_env).__name__}, expected a mapping such as {{'pip': […]}}")
    return RayEngine(
        address, workers, _share("cpus", cpus, 1.0), _share("gpus", gpus, 0.0), runtime_env=dict(runtime_env or {})
    )


def _share(option: str, value: float | None, default: float) -> float:
    """A number of processors: zero, a part of one, or whole ones, as Ray counts them."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{option} = {value!r}, expected a number such as 0.25, 1 or 4")
    if not math.isfinite(value) or value < 0 or (value > 1 and value != int(value)) or (option == "cpus" and not value):
        least = "more than 0" if option == "cpus" else "0"
        raise InputError(f"{option} = {value!r}, expected a part of one ({least} to 1) or a whole number")
    return float(value)
