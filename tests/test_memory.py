"""What could be had on this machine, as files of the system say it."""

from __future__ import annotations

from pathlib import Path

import torch

from tokenrank import memory
from tokenrank.memory import free_bytes

MEBI = 2**20


def system(folder: Path, files: dict[str, str]) -> tuple[Path, Path, Path]:
    """Files as Linux writes them: of the machine, of the groups of this process, of the groups."""
    for name, text in {"meminfo": "MemTotal:  9000 kB\nMemAvailable:    8000 kB\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "meminfo", folder / "own", folder / "groups"


def least(folder: Path, files: dict[str, str]) -> int:
    return min(memory._host(*system(folder, files)))


def test_this_machine() -> None:
    free = free_bytes()
    assert free is None or 0 < free < 2**50
    assert free_bytes(torch.device("meta")) is None


def test_without_groups_what_the_system_calls_available(tmp_path: Path) -> None:
    assert least(tmp_path, {}) == 8000 * 1024


def test_the_narrowest_group_around_the_process_counts(tmp_path: Path) -> None:
    group = {
        "groups/slurm/memory.max": f"{4 * MEBI}\n",
        "groups/slurm/memory.current": f"{3 * MEBI}\n",
        "groups/slurm/memory.stat": f"anon {2 * MEBI}\ninactive_file {MEBI // 2}\n",
        "groups/slurm/step/memory.max": "max\n",
        "groups/slurm/step/memory.current": "7\n",
        "groups/other/memory.max": "8\n",
        "groups/other/memory.current": "1\n",
    }
    assert least(tmp_path, {"own": "0::/slurm/step\n", **group}) == MEBI + MEBI // 2
    assert least(tmp_path, {"own": "0::/\n", **group}) == 8000 * 1024


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    group = {
        "groups/memory/job/memory.limit_in_bytes": f"{2 * MEBI}\n",
        "groups/memory/job/memory.usage_in_bytes": f"{3 * MEBI}\n",
        "groups/cpu/job/memory.limit_in_bytes": "1\n",
        "groups/cpu/job/memory.usage_in_bytes": "0\n",
    }
    assert least(tmp_path, {"own": "4:cpu:/job\n3:memory:/job\n", **group}) == 0  # above its limit: nothing, not less


def test_files_that_say_nothing(tmp_path: Path) -> None:
    assert list(memory._host(tmp_path / "none", tmp_path / "none", tmp_path / "none")) == []
    assert least(tmp_path, {"own": "nonsense\n0:/\n", "groups/memory.max": "a lot\n"}) == 8000 * 1024
