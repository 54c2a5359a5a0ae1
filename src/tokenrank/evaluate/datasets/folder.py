"""Folders of data sets: what lies where, lists of files, pairs of image and annotation, errors that draw the folder."""

from __future__ import annotations

import os
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from ...errors import InputError, NotFoundError, first_line, nearest, nearest_file, neighbours, printable
from ...untrusted import read_text
from .sample import Dataset, Sample

RelativePaths: TypeAlias = tuple[str, ...]
"""Files and folders, relative, that a data set consists of."""

_MOST_FOLDERS = 500  # looked at for a hint
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MASKS = IMAGES | {".gif"}


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
        self._check(key)
        return self._read(key)

    def files(self, key: str) -> tuple[Path, ...]:
        """The files that ``read`` reads, see ``Dataset.files``."""
        self._check(key)
        return self._files(key)

    def _check(self, key: str) -> None:
        if key in self._known:
            return
        if key in self.problems:
            raise InputError(f"sample {key!r} of {self.name} cannot be used: {self.problems[key]}")
        raise NotFoundError(f"{self.name} has no sample {key!r}; {nearest(str(key), self.keys)}")

    @abstractmethod
    def _read(self, key: str) -> Sample:
        """One sample; ``key`` is known."""

    @abstractmethod
    def _files(self, key: str) -> tuple[Path, ...]:
        """Its files; ``key`` is known."""


def find_layout(folder: Path, layouts: Sequence[RelativePaths], tree: str) -> tuple[Path, ...]:
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
    try:
        if folder.is_dir():
            next(folder.iterdir(), None)
            return
        is_there = folder.exists()
    except (OSError, ValueError) as error:  # such as a name that is too long
        why = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"folder {printable(folder)} cannot be listed: {why}") from None
    if is_there:
        raise InputError(f"{printable(folder)} is a file, expected the folder of a data set")
    names = neighbours(folder)
    beside = f"nothing is in {printable(folder.parent)} either"
    hint = nearest_file(folder.name, names, "beside it") if names else beside
    raise InputError(f"no folder {printable(folder)}; {hint}")


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in ``folder``, sorted; none where it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []


def _match(folder: Path, layouts: Sequence[RelativePaths]) -> tuple[Path, ...] | None:
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


@dataclass(frozen=True)
class Pairs:
    """Key → (image, annotation), and key → why it is not there."""

    paths: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def listing(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Visible files of ``folder`` with one of ``suffixes`` in upper or lower case, sorted; links are followed."""
    try:
        paths = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise InputError(f"folder {printable(folder)} cannot be listed: {first_line(error)}") from None
    return [p for p in paths if not p.name.startswith(".") and p.suffix.lower() in suffixes and not p.is_dir()]


def key_of(name: str) -> str:
    """A file name as key: composed Unicode (systems differ in how they store é), bytes that are not UTF-8 escaped."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def by_key(
    paths: Iterable[Path], stem: Callable[[Path], str] = lambda path: path.stem
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files by key, and the keys that several files share, with the reason in words."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(key_of(stem(path)), []).append(path)
    shared = {
        key: f"{' and '.join(printable(path.name) for path in group)} share one name; keep one of them"
        for key, group in groups.items()
        if len(group) > 1
    }
    return {key: group[0] for key, group in groups.items() if len(group) == 1}, shared


def pair(images: Iterable[Path], annotations: Iterable[Path], what: str = "mask") -> Pairs:
    """Images and annotations (``what`` names them in messages) of one stem."""
    return join(by_key(images), by_key(annotations), what)


def pair_listed(
    keys: Iterable[str], images: Iterable[Path], annotations: Iterable[Path], what: str = "label picture"
) -> Pairs:
    """As ``pair``, of the listed keys alone; one that has neither image nor annotation is a problem too."""
    every = pair(images, annotations, what)
    paths = {key: every.paths[key] for key in keys if key in every.paths}
    absent = f"listed, but has neither image nor {what}"
    return Pairs(paths, {key: every.problems.get(key, absent) for key in keys if key not in every.paths})


def join(
    images: tuple[Mapping[str, Path], Mapping[str, str]],
    annotations: tuple[Mapping[str, Path], Mapping[str, str]],
    what: str,
) -> Pairs:
    """Pairs of two answers of ``by_key``."""
    (pictures, doubled), (grounds, doubled_grounds) = images, annotations
    pairs = Pairs(problems={**{key: f"{what}s {why}" for key, why in doubled_grounds.items()}})
    pairs.problems.update({key: f"images {why}" for key, why in doubled.items()})
    for key in pictures.keys() | grounds.keys():
        if key in pairs.problems:
            continue
        if key not in grounds:
            pairs.problems[key] = f"image {printable(pictures[key].name)} has no {what}"
        elif key not in pictures:
            pairs.problems[key] = f"{what} {printable(grounds[key].name)} has no image"
        else:
            broken = [path for path in (pictures[key], grounds[key]) if not path.exists()]
            if broken:
                pairs.problems[key] = f"{printable(broken[0].name)} is a link to a file that is not there"
            else:
                pairs.paths[key] = pictures[key], grounds[key]
    return pairs


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 text without surrounding blanks; empty ones are left out.

    Raises:
        InputError: it cannot be read.
    """
    text = read_text(path)
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_keys(path: Path) -> list[str]:
    """Keys from a list with one a line, each once.

    Raises:
        InputError: the list cannot be read, or is empty.
    """
    keys = list(dict.fromkeys(key_of(line) for line in read_lines(path)))
    if not keys:
        raise InputError(f"list {printable(path)} is empty, expected one name a line")
    return keys
