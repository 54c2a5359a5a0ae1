"""What a run ran on: versions of the libraries and the machine's parts, without names of machines or people."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "tokenrank", "torch", "transformers", "timm", "diffusers", "numpy", "scipy", "scikit-learn", "scikit-image",
    "pandas", "pyarrow", "pillow", "h5py",
)  # fmt: skip


def versions(*others: str) -> dict[str, str]:
    """Versions of Python and of those installed libraries that results may depend on, ``others`` among them."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *others):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["torch"] = str(torch.__version__)  # with the build, such as +cu126
    return found


def hardware() -> dict[str, str | int | float]:
    """Processor, cores that this process may use, threads of torch, memory in GiB, accelerators, operating system."""
    found: dict[str, str | int | float] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
    }
    memory = _memory()
    if memory is not None:
        found["memory_gib"] = round(memory / 2**30, 1)
    if torch.cuda.is_available():
        found["accelerator"] = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    elif torch.backends.mps.is_available():
        found["accelerator"] = "Apple GPU"
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or "unknown"


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
