"""The files of a sample are those that its reading reads, and what they hold is in the digest of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokenrank.errors import InputError, NotFoundError, TokenRankError
from tokenrank.evaluate.datasets import DATASETS, Dataset, open_dataset
from tokenrank.evaluate.runner.settings import contents_of

from .test_bsds500 import write_bsds
from .test_classification import write_classes, write_shard
from .test_imagenet_segmentation import write_mat
from .test_label_pictures import LIST, VOC, write_city, write_panoptic, write_voc
from .test_masks import write_pair
from .writing import disc, noise, write, write_grey


def masks(images: str, grounds: str) -> Callable[[Path], object]:
    return lambda root: [write_pair(root, stem, images, grounds) for stem in ("1", "2")]


def coco(root: Path) -> None:
    for key in ("1", "2", "3"):
        write(root / f"val2017/{key}.jpg", noise(2, 2))
        write_grey(root / f"annotations/val2017/{key}.png", np.array([[0, 1], [156, 255]]))
    (root / LIST).write_text("1\n2\n")


def shards(root: Path) -> None:
    for number in range(2):
        write_shard(root / f"val-{number}.parquet", 3)
    (root / "classes.txt").write_text("a\nb\nc\n")


def mat(root: Path) -> None:
    root.mkdir()
    write_mat(root / "gtsegs_ijcv.mat", [noise(6, 10)] * 2, [disc().astype(np.uint8)] * 2, ["n1", "n2"])


WRITERS: dict[str, Callable[[Path], object]] = {
    "ecssd": masks("images", "ground_truth_mask"),
    "duts": masks("DUTS-TE-Image", "DUTS-TE-Mask"),
    "dut-omron": masks("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    "folder": masks("images", "masks"),
    "imagenet-segmentation": mat,
    "voc2012": lambda root: write_voc(root, VOC, ["a", "b"]),
    "coco-stuff27": coco,
    "coco-panoptic": lambda root: write_panoptic(root, {"1": [1, 2], "2": [3, 0]}),
    "cityscapes": lambda root: [write_city(root, "ulm", f"ulm_{i}", np.full((2, 4), 7)) for i in range(2)],
    "bsds500": lambda root: write_bsds(root),
    "imagenet-folder": write_classes,
    "parquet": shards,
}


def unreadable(dataset: Dataset) -> set[str]:
    keys = set()
    for key in dataset.keys:
        try:
            dataset.read(key)
        except TokenRankError:
            keys.add(key)
    return keys


@pytest.mark.parametrize("name", DATASETS)
def test_what_reading_reads_is_what_is_digested(name: str, tmp_path: Path):
    pytest.importorskip("h5py"), pytest.importorskip("pyarrow")
    WRITERS[name](tmp_path / "data")
    dataset = open_dataset(name, tmp_path / "data")
    before = contents_of(dataset, dataset.keys)
    assert set(before) == set(dataset.keys)
    assert not unreadable(dataset)

    def changed() -> set[str]:
        return {key for key, digest in contents_of(dataset, dataset.keys).items() if digest != before[key]}

    read: set[str] = set()
    for file in [path for path in (tmp_path / "data").rglob("*") if path.is_file()]:
        right = file.read_bytes()
        file.write_bytes(b"no such format")
        broken = unreadable(dataset)
        assert changed() == broken
        for place in (0, len(right) // 2, len(right) - 1):
            file.write_bytes(right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :])
            assert changed() == broken, (file, place)
        file.write_bytes(right)
        assert not changed()
        read |= broken
    assert read == set(dataset.keys)
    (tmp_path / "data" / "more.txt").write_bytes(b"of no sample")
    assert not changed()


def test_files_of_samples_that_are_none(tmp_path: Path):
    write_pair(tmp_path, "1")
    write(tmp_path / "images/2.jpg", noise())
    dataset = open_dataset("folder", tmp_path)
    with pytest.raises(NotFoundError, match="has no sample '3'"):
        dataset.files("3")
    with pytest.raises(InputError, match="cannot be used"):
        dataset.files("2")


def test_choices_that_make_other_samples_of_the_same_files_are_told(tmp_path: Path):
    shards(tmp_path / "parquet")
    write_voc(tmp_path / "voc", VOC)
    for inclusive in (True, False):
        made = open_dataset("parquet", tmp_path / "parquet", inclusive_boxes=inclusive)
        assert made.options == {"inclusive_boxes": inclusive}
    for single in (True, False):
        assert open_dataset("voc2012", tmp_path / "voc", single_class=single).options == {"single_class": single}
