"""Memory: how much could be had, as the system and the containers that this process is in say; and when it ran out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

_ON_CPU = ("can't allocate memory", "DefaultCPUAllocator")  # in errors of PyTorch's allocator, which have no class
_SYSTEM, _GROUPS, _OWN_GROUPS = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_bytes(device: torch.device | str = "cpu") -> int | None:
    """Memory that could be had on a device without swapping, in bytes; None where the system does not say.

    On a GPU what the driver calls free and what PyTorch holds and does not use; on the host what the system calls
    available, and no more than the limits of the control groups that this process is in leave.
    """
    device = torch.device(device)
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + cached)
    if device.type != "cpu":
        return None
    return min(_host(_SYSTEM, _OWN_GROUPS, _GROUPS), default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _ON_CPU)
    )


def _host(system: Path, own: Path, groups: Path) -> Iterator[int]:
    """What each of those who may say no leaves."""
    available = _field(system, "MemAvailable:")
    if available is not None:
        yield 1024 * available
    for folder in _folders(own, groups):
        left = _left_in(folder)
        if left is not None:
            yield left


def _folders(own: Path, groups: Path) -> list[Path]:
    """The control group of this process and those around it, of the second version and of the first."""
    found = [groups, groups / "memory"]
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        parts = [part for part in path.split("/") if part and part != ".."]
        found += [root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return found


def _left_in(folder: Path) -> int | None:
    """What the limit of a control group leaves; files that are cached can be dropped."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            return max(0, most - now + (_field(folder / "memory.stat", "inactive_file") or 0))
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _field(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)
