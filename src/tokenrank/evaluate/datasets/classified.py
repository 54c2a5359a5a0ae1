"""Data sets of classified pictures: a folder a class, or Parquet shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.Image

from ...errors import InputError, first_line, printable
from ...models import read_image
from ...untrusted import check, check_regular, installed
from ...untrusted.apart import RefusedError, ask, of_file
from .folder import IMAGES, FolderDataset, check_folder, key_of, listing, read_lines, subfolders, wrong_folder
from .masks import image_from_bytes
from .sample import Sample

_CLASSES_TREE = """
val/
  n01440764/  ILSVRC2012_val_00000293.JPEG …
  n01443537/  …"""


class ImageNetFolder(FolderDataset):
    """Samples with ``target``, the place of the class's folder among all, sorted, and ``word``, the folder's name.

    Keys are ``class/file``. A folder without pictures keeps its place and is listed in ``problems``, so that the
    numbers stay those of the classifier; so is a picture outside the folders.
    """

    def __init__(self, folder: Path, name: str = "imagenet-folder") -> None:
        check_folder(folder)
        classes = subfolders(folder)
        self._paths: dict[str, tuple[Path, int]] = {}
        problems = {key_of(path.name): "lies outside the folders of classes" for path in listing(folder, IMAGES)}
        for target, inside in enumerate(classes):
            found = listing(inside, IMAGES)
            if not found:
                problems[key_of(inside.name) + "/"] = "the folder of this class holds no pictures"
            for path in found:
                key = f"{key_of(inside.name)}/{key_of(path.name)}"
                if key in self._paths or key in problems:
                    self._paths.pop(key, None)
                    problems[key] = "several files have this name, stored in different forms of Unicode; keep one"
                elif path.exists():
                    self._paths[key] = path, target
                else:
                    problems[key] = "is a link to a file that is not there"
        if not self._paths:
            raise wrong_folder(folder, "has no folders of classes with pictures in them", _CLASSES_TREE, _has_classes)
        self.classes = tuple(key_of(inside.name) for inside in classes)
        super().__init__(name, folder, self._paths, problems)

    def _read(self, key: str) -> Sample:
        path, target = self._paths[key]
        return Sample(key, read_image(path), target=target, word=self.classes[target])

    def _files(self, key: str) -> tuple[Path, ...]:
        return (self._paths[key][0],)


def _has_classes(folder: Path) -> bool:
    """Whether the name, or three folders with pictures each, suggest classes: for a hint, so not for any two."""
    first = subfolders(folder)[:3]
    enough = len(first) == 3 or folder.name in ("train", "val", "validation", "test")
    return enough and bool(first) and all(listing(inside, IMAGES) for inside in first)


_CLASS_NAMES = "classes.txt"
_DIGITS = 7
_KEY = 128  # bytes for the key of a row, in a tuple and a set
_SHARDS_TREE = """
FOLDER/              (or FOLDER/data/)
  val.parquet        (or val-00000-of-00002.parquet …: columns image, label, optional box)
  classes.txt        (optional: a name a line, or number, tab, …, tab, name)"""


class ParquetShards(FolderDataset):
    """Samples with ``target``, ``word`` where there is a classes.txt, and ``box`` where there is such a column.

    Keys are the shard's name and the row, such as ``val-0000012``. The column image holds encoded bytes, or structs
    with ``bytes`` beside a ``path``; a label below 0 counts as none. A group of rows is in memory at a time, in the
    process apart that reads it (``untrusted/parsers/parse_parquet.py``).

    Args:
        folder: that holds the shards, or ``data`` with them.
        name: of the data set.
        split: how the names of the shards begin; None takes all.
        inclusive_boxes: x1 and y1 in the column box are the last pixels inside, as in Tiny-ImageNet; the sample's
            box has 1 added to them. False: they are the first pixels outside.
    """

    def __init__(
        self, folder: Path, name: str = "parquet", *, split: str | None = "val", inclusive_boxes: bool = True
    ) -> None:
        check_folder(folder)
        every = _shards(folder) or _shards(folder / "data")
        if not every:
            raise wrong_folder(folder, "holds no Parquet shards", _SHARDS_TREE, lambda other: bool(_shards(other)))
        chosen = [path for path in every if path.name.startswith(split or "")]
        if not chosen:
            raise InputError(
                f"no shard in {printable(folder)} begins with split {split!r}; found: "
                f"{', '.join(path.name for path in every[:5])}{' …' if len(every) > 5 else ''}"
            )
        self._shards = {key_of(path.stem): path for path in chosen}
        self._columns: dict[str, list[str]] = {}
        self._groups: dict[str, list[int]] = {}  # rows of every group
        self._inclusive = inclusive_boxes
        keys = []
        for shard, path in self._shards.items():
            self._columns[shard], self._groups[shard] = _describe(path)
            keys += [f"{shard}-{row:0{_DIGITS}d}" for row in range(sum(self._groups[shard]))]
        self.classes, self.options = _class_names(folder), {"inclusive_boxes": inclusive_boxes}
        super().__init__(name, folder, keys, {})

    def _read(self, key: str) -> Sample:
        shard, row = key[: -_DIGITS - 1], int(key[-_DIGITS:])
        values = self._row(shard, row)
        name = f"row {row} of {printable(self._shards[shard])}"
        label = values["label"]
        if label is not None and not isinstance(label, int):
            raise InputError(f"{name} has label {label!r}, expected the number of a class")
        target = label if label is not None and label >= 0 else None
        word = None
        if target is not None and self.classes:
            if target >= len(self.classes):
                raise InputError(
                    f"{name} has label {target}, expected 0 … {len(self.classes) - 1} as in {_CLASS_NAMES}"
                )
            word = self.classes[target]
        image = _image(values["image"], name)
        box = _box(values.get("box"), image.size, self._inclusive, name)
        return Sample(key, image, target=target, word=word, box=box)

    def _files(self, key: str) -> tuple[Path, ...]:
        return (self._shards[key[: -_DIGITS - 1]],)

    def _row(self, shard: str, row: int) -> dict[str, Any]:
        """Values of a row by column; its group stays in the process apart until another is asked for."""
        group = 0
        while row >= self._groups[shard][group]:
            row -= self._groups[shard][group]
            group += 1
        path, rows = self._shards[shard], self._groups[shard][group]
        status = check_regular(path, "a Parquet file")
        name = f"row group {group} of {printable(path)}"
        question: dict[str, Any] = {"group": group, "columns": self._columns[shard], "place": row, "rows": rows}
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        try:
            values, blobs = ask("parquet", "row", name, path=of_file(path), stamp=stamp, **question)
        except RefusedError as error:
            raise InputError(f"{name} cannot be read: {first_line(error)}; fetch it again") from None
        return {**values, "image": bytes(blobs[0]) if blobs else None}


def _shards(folder: Path) -> list[Path]:
    return listing(folder, {".parquet"}) if folder.is_dir() else []


def _describe(path: Path) -> tuple[list[str], list[int]]:
    """Names of the columns to read, and the number of rows of every row group."""
    check_regular(path, "a Parquet file")
    installed("pyarrow", "evaluate")
    name = printable(path)
    try:
        told, _ = ask("parquet", "describe", name, path=of_file(path))
    except RefusedError as error:
        raise InputError(f"{name} is not a whole Parquet file: {first_line(error)}; fetch it again") from None
    names, groups = list(told["names"]), [int(rows) for rows in told["groups"]]
    if min(groups, default=0) < 0:
        raise InputError(f"{name} declares a group of {min(groups)} rows; the file is damaged, fetch it again")
    check(_KEY * sum(groups), name, f"{sum(groups):,} rows")
    missing = [column for column in ("image", "label") if column not in names]
    if missing:
        raise InputError(f"{printable(path)} has no column {missing[0]!r}, expected image and label; found: {names}")
    return [column for column in ("image", "label", "box") if column in names], groups


def _image(value: Any, name: str) -> PIL.Image.Image:
    if not isinstance(value, bytes) or not value:
        raise InputError(f"{name} holds no encoded picture, expected bytes, or a struct whose bytes are not empty")
    return image_from_bytes(value, f"the picture in {name}")


def _box(value: Any, size: tuple[int, int], inclusive: bool, name: str) -> tuple[int, int, int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(v, int | float) for v in value):
        raise InputError(f"{name} has box {value}, expected x0, y0, x1, y1")
    x0, y0, x1, y1 = (int(v) for v in value)
    x1, y1 = x1 + inclusive, y1 + inclusive
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        meaning, other = ("last pixels inside", False) if inclusive else ("first pixels outside", True)
        raise InputError(
            f"{name} has box {value}, expected x0, y0, x1, y1 in a picture of {size[0]} × {size[1]}, "
            f"with x1 and y1 the {meaning}; if they are not, give inclusive_boxes={other}"
        )
    return x0, y0, x1, y1


def _class_names(folder: Path) -> tuple[str, ...]:
    path = folder / _CLASS_NAMES
    if not path.exists():
        return ()
    names: dict[int, str] = {}
    for place, line in enumerate(read_lines(path)):
        first, *rest = line.split("\t")
        number = int(first) if rest and first.isdecimal() else place
        if number in names:
            raise InputError(f"{printable(path)} names class {number} twice: {names[number]!r} and {line!r}")
        names[number] = rest[-1] if rest else first
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{printable(path)} numbers {len(names)} classes up to {max(names)}, expected 0 without gaps")
    return tuple(names[number] for number in range(len(names)))
