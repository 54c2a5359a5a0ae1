"""The first network of this project, which needs no wheel: it lies beside this file."""

from __future__ import annotations

import shutil
from pathlib import Path

from .frame import whole_folder

NAME = "toy"
SOURCE = Path(__file__).parent / "toy"


def make(out: Path) -> str:
    """Copy it.

    Raises:
        InputError: the folder is there, or cannot be made.
    """
    with whole_folder(out) as folder:
        shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    return "copied as it is"
