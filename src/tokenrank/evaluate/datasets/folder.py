"""What data sets in folders share: known keys, and errors that draw the folder that was expected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from ...errors import InputError, NotFoundError, first_line, nearest, neighbours, printable
from .sample import Dataset, Sample

Parts: TypeAlias = tuple[str, ...]
"""Files and folders, relative, that a data set consists of."""

_MOST_FOLDERS = 500  # looked at for a hint


class FolderDataset(Dataset):
    """A data set read from ``folder``; subclasses list the keys when opened and read one sample at a time."""

    def __init__(self, name: str, folder: Path, keys: Iterable[str], problems: Mapping[str, str]) -> None:
        self.name, self.folder = name, folder
        self.keys, self.problems = tuple(sorted(keys)), dict(sorted(problems.items()))
        self._known = frozenset(self.keys)
        if not self.keys:
            found = next(iter(self.problems.items()), None)
            why = f"; {len(self.problems)} unusable, the first {found[0]!r}: {found[1]}" if found else ""
            raise InputError(f"{printable(folder)} holds no usable sample of {name}{why}")

    def read(self, key: str) -> Sample:
        """One sample from its files, see ``Dataset.read``."""
        if key in self._known:
            return self._read(key)
        if key in self.problems:
            raise InputError(f"sample {key!r} of {self.name} cannot be used: {self.problems[key]}")
        raise NotFoundError(f"{self.name} has no sample {key!r}; {nearest(str(key), self.keys)}")

    @abstractmethod
    def _read(self, key: str) -> Sample:
        """One sample; ``key`` is known."""


def find_layout(folder: Path, layouts: Sequence[Parts], tree: str) -> tuple[Path, ...]:
    """Paths of the first of ``layouts`` whose parts all exist in ``folder``.

    Args:
        folder: the data set's.
        layouts: alternatives; a part with a suffix is a file, any other a folder.
        tree: drawing of the expected folder, for the error.

    Raises:
        InputError: no layout fits; says what is missing, what was expected, and which folder nearby looks right.
    """
    check_folder(folder)
    found = _match(folder, layouts)
    if found is not None:
        return found
    best = max(layouts, key=lambda parts: sum(_exists(folder / part) for part in parts))
    missing = " and ".join(repr(part) for part in best if not _exists(folder / part))
    raise wrong_folder(folder, f"lacks {missing}", tree, lambda other: _match(other, layouts) is not None)


def wrong_folder(folder: Path, what: str, tree: str, fits: Callable[[Path], bool]) -> InputError:
    """The error for a folder of another shape; names a folder nearby that ``fits``, where there is one."""
    near = next((other for other in _nearby(folder) if fits(other)), None)
    hint = f"; {printable(near)} looks right" if near is not None else ""
    return InputError(f"{printable(folder)} {what}{hint}. Expected:\n{tree.strip()}")


def check_folder(folder: Path) -> None:
    """Raises InputError unless ``folder`` is one that can be listed."""
    if folder.is_dir():
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            raise InputError(f"folder {printable(folder)} cannot be listed: {first_line(error)}") from None
        return
    if folder.exists():
        raise InputError(f"{printable(folder)} is a file, expected the folder of a data set")
    names = neighbours(folder)
    hint = nearest(folder.name, names) if names else f"nothing is in {printable(folder.parent)} either"
    raise InputError(f"no folder {printable(folder)}; {hint}")


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in ``folder``, sorted; none where it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []


def _match(folder: Path, layouts: Sequence[Parts]) -> tuple[Path, ...] | None:
    for parts in layouts:
        paths = tuple(folder / part for part in parts)
        if all(_exists(path) for path in paths):
            return paths
    return None


def _exists(path: Path) -> bool:
    return path.is_file() if path.suffix else path.is_dir()


def _nearby(folder: Path) -> Iterable[Path]:
    """Folders one and two floors below, then the two above."""
    children = subfolders(folder)
    below = [*children, *(grandchild for child in children for grandchild in subfolders(child))]
    return [*islice(below, _MOST_FOLDERS), *islice(folder.resolve().parents, 2)]
