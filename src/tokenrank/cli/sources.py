"""Sources that are named on the command line: files, and folders of them; what their results are called."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, printable
from ..untrusted import read_bytes
from .output import source_in


@dataclass(frozen=True)
class Source:
    """One file, or one text.

    Attributes:
        path: as it was typed, or in the folder that was.
        stem: of the names of its results.
        digest: of what is in it; None where it cannot be read, which whoever opens it will say.
    """

    path: str
    stem: str
    digest: str | None

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name


def digest_of(content: bytes) -> str:
    """Short enough to stand in a file's notes, long enough that no two sources share it."""
    return hashlib.sha256(content).hexdigest()[:16]


def sources_of(paths: Sequence[str], what: str, endings: frozenset[str]) -> list[Source]:
    """Files that are named, and those of folders that are named, each once.

    Args:
        paths: as typed.
        what: "picture" or "sound".
        endings: of the files that are taken from a folder; what tokenrank made is left there.

    Raises:
        InputError: nothing but spaces; an address; a folder without such files; two files whose results would have the
            same names.
    """
    found: dict[str, str] = {}
    for path in paths:
        if not path.strip():  # the empty path would be the folder at hand
            raise InputError(f"{printable(path)} names no {what}; give a file, or a folder of them")
        refuse_address(path, what)
        for file in _files(path, what, endings):
            found.setdefault(os.path.realpath(file), file)
    files = list(found.values())
    return [Source(file, stem, _digest(Path(file))) for file, stem in zip(files, _stems(files, what), strict=True)]


def _digest(file: Path) -> str | None:
    try:
        return digest_of(read_bytes(file)) if file.is_file() else None
    except (OSError, ValueError):
        return None


def refuse_address(path: str, what: str) -> None:
    """Raise ``InputError`` for what is on another machine."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|data:", path):
        raise InputError(f"{printable(path)} is an address; download it first, and give the file of the {what}")


def _files(path: str, what: str, endings: frozenset[str]) -> list[str]:
    try:
        if not Path(path).is_dir():
            return [path]
        inside = sorted(Path(path).iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{printable(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    fitting = [file for file in inside if file.suffix.lower() in endings and not file.name.startswith(".")]
    chosen = [str(file) for file in fitting if file.is_file() and source_in(file) is None]
    if not chosen:
        holds = f"what it holds, such as {printable(inside[0].name)}, is none" if inside else "it is empty"
        if fitting:
            holds = "those in it were made by tokenrank"
        raise InputError(f"no {what} in the folder {printable(path)}: {holds}; give another, or a {what}")
    return chosen


def _stems(files: Sequence[str], what: str) -> list[str]:
    """Names for the results, one a file: its stem, or with as much more as tells it from the others."""
    paths = [Path(file) for file in files]
    stems = [path.stem for path in paths]
    for way in _WAYS:
        for group in _alike(stems):
            longer = [way(paths[i]) for i in group]
            if len({stem.casefold() for stem in longer}) == len(group):
                for i, stem in zip(group, longer, strict=True):
                    stems[i] = stem
    for first, second, *_ in _alike(stems):
        raise InputError(
            f"results of {printable(files[first])} and {printable(files[second])} would have the same names; rename "
            f"one {what}, or give them in two calls with folders of their own (--out)"
        )
    return stems


def _alike(stems: Sequence[str]) -> Iterator[list[int]]:
    """Places of equal stems; upper and lower case are one on some disks."""
    places: dict[str, list[int]] = {}
    for i, stem in enumerate(stems):
        places.setdefault(stem.casefold(), []).append(i)
    yield from (group for group in places.values() if len(group) > 1)


def _folder(path: Path) -> str:
    return path.absolute().parent.name or "root"


_WAYS: tuple[Callable[[Path], str], ...] = (
    lambda path: f"{_folder(path)}-{path.stem}",
    lambda path: f"{path.stem}-{path.suffix[1:].lower()}",
    lambda path: f"{_folder(path)}-{path.stem}-{path.suffix[1:].lower()}",
)
