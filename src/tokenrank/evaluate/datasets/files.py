"""Lists of files, and the pairs of image and annotation that share a name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError, first_line, printable

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MASKS = IMAGES | {".gif"}


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{printable(path)} cannot be read as UTF-8 text: {first_line(error)}") from None
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
