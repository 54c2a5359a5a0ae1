"""The folder that a command writes to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .. import __version__
from ..errors import InputError, printable
from ..files.whole import write_whole

MARK = "made by tokenrank"
MAKER = f"{MARK} {__version__}"
"""Stands in every file that a command writes, so that only such files are ever replaced."""


class OutFolder:
    """A folder for the files ``names``; checked before any work is done, made when the first is written.

    A file that is there already is replaced if a command of tokenrank made it (it then holds
    ``MARK``), and is an error otherwise.

    Raises:
        InputError: not a folder, not writable, or a file of another origin stands in the way.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path.expanduser()
        try:
            self._check(list(names))
        except (OSError, ValueError) as error:
            raise self._refusal(self.path, error) from error

    def write(self, name: str, content: bytes) -> Path:
        """Write a file as a whole or not at all.

        Raises:
            InputError: the system refuses.
        """
        path = self.path / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except (OSError, ValueError) as error:
            raise self._refusal(path, error) from error
        return path

    def _check(self, names: list[str]) -> None:
        nearest = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not nearest.is_dir():
            raise InputError(f"cannot write into {printable(self.path)}: {printable(nearest)} is a file; {_CURE}")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"cannot write into {printable(self.path)}: no permission in {printable(nearest)}; {_CURE}"
            )
        for name in names:
            if not _is_ours(self.path / name):
                raise InputError(
                    f"{printable(self.path / name)} exists and was not made by tokenrank; move it, or {_CURE}"
                )

    def _refusal(self, path: Path, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or str(error)
        return InputError(f"cannot write {printable(path)}: {reason}; {_CURE}")


_CURE = "choose another folder with --out"


def _is_ours(path: Path) -> bool:
    if not path.exists():
        return not path.is_symlink()
    return path.is_file() and MARK.encode() in path.read_bytes()
