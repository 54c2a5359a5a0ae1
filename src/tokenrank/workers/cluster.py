"""A Ray cluster: connected to or started here, asked what it has, checked for what its workers need."""

from __future__ import annotations

import logging
import math
import os
import pkgutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import ClusterError, InputError, TokenRankWarning, first_line, printable, require

BEFORE_IMPORT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print of its nodes, on stdout, where results stand
}
"""Variables that Ray reads when it is imported; those of the user are left as they are."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""At "0" Ray listens to this machine alone, as it does on macOS and Windows anyway. Read at import, too."""
OBJECT_STORE = 100 << 20
"""Bytes for objects of a cluster that is started here, beside room for what workers are sent."""
ASKED_WITHIN = 300.0
"""Seconds in which every node has to say which versions it has: as long as installing a runtime_env may take."""


def imported(alone: bool) -> Any:
    """Ray with Ray Data; ``alone``: as it is to be where it starts on this machine.

    Raises:
        MissingExtraError: not installed.
    """
    for name, value in (BEFORE_IMPORT | ({LOOPBACK: "0"} if alone else {})).items():
        os.environ.setdefault(name, value)
    require("ray.data", "distributed")
    return require("ray", "distributed")


@contextmanager
def connected(address: str | None, sent: int, runtime_env: Mapping[str, Any]) -> Iterator[Any]:
    """Ray, connected, inside the block; what was begun here is ended after it.

    Where the process is connected already (``ray.init`` was called), that cluster is used, and stays.

    Args:
        address: "auto" or HOST:PORT of a running cluster; None starts one here, which listens to this machine alone.
        sent: bytes that every worker is sent.
        runtime_env: for the workers.

    Raises:
        MissingExtraError: no Ray. ClusterError: no cluster answers there.
    """
    ray = imported(address is None)
    if ray.is_initialized():
        if runtime_env:
            raise InputError("runtime_env= beside a connection that exists; give it to ray.init, which made that one")
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.ERROR}
    if runtime_env:
        quiet["runtime_env"] = dict(runtime_env)
    try:
        if address is None:
            _start(ray, {"include_dashboard": False, "object_store_memory": OBJECT_STORE + 4 * sent, **quiet})
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises the bare class, too
        where = "on this machine" if address is None else f"at {printable(address)}"
        cure = (
            "try again when it is less busy: Ray gives a node half a minute to start"
            if address is None
            else "start one with 'ray start --head' and pass its address, or leave the address out: then one is "
            "started on this machine for as long as it is needed"
        )
        raise ClusterError(f"no Ray cluster {where}: {first_line(error)}; {cure}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, options: Mapping[str, Any]) -> None:
    """Start a cluster here; once more where a busy machine took longer than the half minute that Ray waits."""
    try:
        ray.init(address="local", **options)
    except Exception:
        ray.shutdown()
        ray.init(address="local", **options)


def room_for(ray: Any, cpus: float, gpus: float) -> int:
    """How many workers of a size fit into the cluster as it is now, node by node.

    Raises:
        ClusterError: none; says what there is.
    """
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = sum(_fitting(found, cpus, gpus) for found in resources)
    if not fitting:
        there = ", ".join(f"{found.get('CPU', 0):g} CPU and {found.get('GPU', 0):g} GPU" for found in resources)
        raise ClusterError(
            f"no node has room for a worker of {cpus:g} CPU and {gpus:g} GPU; the cluster has {len(resources)} "
            f"nodes: {there}; ask for less (cpus=, gpus=), or add nodes first"
        )
    return fitting


def _fitting(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_cpu = math.floor(resources.get("CPU", 0) / cpus)
    # a share of a GPU lies on one of them
    by_gpu = math.inf if not gpus else resources.get("GPU", 0) * (1 / gpus if gpus > 1 else math.floor(1 / gpus))
    return int(min(by_cpu, by_gpu))


def workers_for(ray: Any, asked: int | None, cpus: float, gpus: float) -> int:
    """The number of workers: as asked, or as many as fit.

    Warns:
        TokenRankWarning: fewer fit now than were asked for.
    """
    fitting = room_for(ray, cpus, gpus)
    if asked is not None and asked > fitting:
        warnings.warn(
            f"workers = {asked}, but the cluster has room for {fitting} of {cpus:g} CPU and {gpus:g} GPU now; the "
            "others start as soon as nodes come",
            TokenRankWarning,
            stacklevel=2,
        )
    return fitting if asked is None else asked


def check_versions(ray: Any, versions: Callable[[], Mapping[str, str]] | None) -> None:
    """Ask every node for the package and for its versions.

    Raises:
        ClusterError: a node lacks the package, or has other versions: says which, and the cure.
    """
    from .. import __version__

    # a function of Python's own, so that a node without the package can run it
    for node, found in _asked(ray, pkgutil.resolve_name, "tokenrank:__version__").items():
        if found != __version__:
            raise ClusterError(f"node {node} has tokenrank {found}, expected {__version__} as here; {_cure()}")
    if versions is None:
        return
    here = versions()
    for node, there in _asked(ray, versions).items():
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if names:
            differing = "; ".join(
                f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here" for name in names
            )
            raise ClusterError(
                f"node {node} has other versions than this process: {differing}; allow them (other_versions=True, "
                f"--other-versions), or {_cure()}"
            )


def _asked(ray: Any, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Node → what the function returns there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    remote = ray.remote(num_cpus=0, max_retries=2)(function)
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    asked = {identity: remote.options(scheduling_strategy=On(identity, soft=False)).remote(*args) for identity in nodes}
    answers = {}
    for identity, answer in asked.items():
        try:
            answers[f"{nodes[identity]} ({identity[:8]})"] = ray.get(answer, timeout=ASKED_WITHIN)
        except ray.exceptions.TaskUnschedulableError:
            continue  # the node has gone in the meantime
        except ray.exceptions.RayError as error:
            raise missing_there(error) or _broken(nodes[identity], error) from error
    return answers


def missing_there(error: BaseException) -> ClusterError | None:
    """What to say where an error of Ray's comes from a worker that lacks a package; None where it does not."""
    text = str(error)
    if "ModuleNotFoundError" not in text and "No module named" not in text:
        return None
    words = next(line.strip() for line in reversed(text.splitlines()) if "No module named" in line)
    return ClusterError(f"the workers of the cluster lack a package ({words.rpartition(': ')[2]}); {_cure()}")


def _cure() -> str:
    return (
        "install what this process has on every node, pip install 'tokenrank[evaluate,distributed]' of this version, "
        "or let Ray do it: runtime_env={'pip': ['tokenrank[evaluate,distributed]']} (--runtime-env)"
    )


def _broken(address: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"node {address} cannot run a function: {first_line(error)}; see its logs, session_latest/logs in Ray's "
        "temporary folder"
    )
