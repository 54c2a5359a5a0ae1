"""The folder that a command writes to, and the mark in each of its files: who made it, and of which source."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from .. import __version__
from ..errors import InputError, printable
from ..untrusted import read_bytes
from ..writing import write_whole
from .report import note

MARK = "made by tokenrank"
_SOURCE = re.compile(rb"made by tokenrank [\w.+!-]+, source ([0-9a-f]{16})")
_CURE = "choose another folder with --out"


def maker(digest: str) -> str:
    """What stands in every file that a command writes.

    Args:
        digest: of its source (``sources.digest_of``).
    """
    return f"{MARK} {__version__}, source {digest}"


def source_in(path: Path) -> str | None:
    """The digest of the source of a file that a command wrote.

    Returns:
        "" where tokenrank made it and names no source; None where it did not make it.
    """
    try:
        content = read_bytes(path)
    except InputError:  # a pipe, a folder: nothing of ours
        return None
    if MARK.encode() not in content:
        return None
    found = _SOURCE.search(content)
    return found[1].decode() if found else ""


class OutFolder:
    """A folder for files of known names and sources; checked before any work is done, made when the first is written.

    A file that is there already is replaced where a command made it from the same source, or from another one and
    ``overwrite`` says so. What tokenrank did not make, and links, are never replaced.

    Args:
        path: of the folder.
        sources: file name → digest of its source.
        overwrite: replace results of other sources, too.

    Raises:
        InputError: not a folder, not writable, or a file stands in the way; the message has the cure.
    """

    def __init__(self, path: Path, sources: Mapping[str, str], overwrite: bool = False) -> None:
        self.path = path.expanduser()
        self._sources, self._overwrite, self._replaced = dict(sources), overwrite, 0
        try:
            check_folder(self.path)
            for name, digest in sources.items():
                self._check(self.path / name, digest)
        except (OSError, ValueError) as error:
            raise error if isinstance(error, InputError) else _refusal(self.path, error) from error

    def write(self, name: str, content: bytes, digest: str = "") -> Path:
        """Write a file as a whole or not at all.

        Args:
            name: one of those that were told before, or another, such as a further page, which is checked now.
            content: the file's.
            digest: of the source of a file that was not told before.

        Raises:
            InputError: the system refuses, or something is in the way.
        """
        path = self.path / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if name in self._sources:
                _refuse_link(path)
            else:
                self._check(path, digest)
            there = path.exists()
            write_whole(path, content)
        except (OSError, ValueError) as error:
            raise error if isinstance(error, InputError) else _refusal(path, error) from error
        self._replaced += there
        return path

    def told(self) -> None:
        """Say on stderr how many files were replaced since this was last asked."""
        if self._replaced:
            note(f"replaced {self._replaced} {'file' if self._replaced == 1 else 'files'} of the same name")
        self._replaced = 0

    def _check(self, path: Path, digest: str) -> None:
        _refuse_link(path)
        if not path.exists():
            return
        made_from = source_in(path) if path.is_file() else None
        if made_from is None:
            raise InputError(f"{printable(path)} exists and was not made by tokenrank; move it, or {_CURE}")
        if made_from != digest and not self._overwrite:
            raise InputError(
                f"{printable(path)} is the result of another source; replace it with --overwrite, or {_CURE}"
            )


def check_folder(path: Path) -> None:
    """Raise ``InputError`` where no file can be written into the folder, or into the one it would be made in."""
    try:
        nearest = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        if not nearest.is_dir():
            what = "a link to nothing" if nearest.is_symlink() and not nearest.exists() else "a file"
            raise InputError(f"cannot write into {printable(path)}: {printable(nearest)} is {what}; {_CURE}")
    except (OSError, ValueError) as error:
        raise error if isinstance(error, InputError) else _refusal(path, error) from error
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {printable(path)}: no permission in {printable(nearest)}; {_CURE}")
    try:
        with TemporaryFile(dir=nearest):  # permissions do not tell of read-only disks, or of /proc
            pass
    except OSError as error:
        raise _refusal(path, error) from error


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise InputError(f"{printable(path)} is a link, which is not followed; remove it, or {_CURE}")


def _refusal(path: Path, error: Exception) -> InputError:
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return InputError(f"cannot write {printable(path)}: the name is too long; shorten the source's, or {_CURE}")
    return InputError(f"cannot write {printable(path)}: {getattr(error, 'strerror', None) or error}; {_CURE}")
