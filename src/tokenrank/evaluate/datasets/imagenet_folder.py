"""A folder a class, pictures in it: ImageNet's validation set as commonly sorted, or your own."""

from __future__ import annotations

from pathlib import Path

from ...models import read_image
from .files import IMAGES, key_of, listing
from .folder import FolderDataset, check_folder, subfolders, wrong_folder
from .sample import Sample

_TREE = """
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
            raise wrong_folder(folder, "has no folders of classes with pictures in them", _TREE, _fits)
        self.classes = tuple(key_of(inside.name) for inside in classes)
        super().__init__(name, folder, self._paths, problems)

    def _read(self, key: str) -> Sample:
        path, target = self._paths[key]
        return Sample(key, read_image(path), target=target, word=self.classes[target])


def _fits(folder: Path) -> bool:
    """Whether the name, or three folders with pictures each, suggest classes: for a hint, so not for any two."""
    first = subfolders(folder)[:3]
    enough = len(first) == 3 or folder.name in ("train", "val", "validation", "test")
    return enough and bool(first) and all(listing(inside, IMAGES) for inside in first)
