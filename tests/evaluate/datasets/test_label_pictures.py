"""PASCAL VOC, COCO-Stuff and Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokenrank.evaluate.datasets.label_pictures import CITYSCAPES_CLASSES as CITY_CLASSES
from tokenrank.evaluate.datasets.label_pictures import COCO_CLASSES as CLASSES
from tokenrank.evaluate.datasets.label_pictures import COCO_COARSE as COARSE
from tokenrank.evaluate.datasets.label_pictures import COCO_MEMBERS as MEMBERS
from tokenrank.evaluate.datasets.opening import open_dataset

from .writing import cut, noise, refused, write, write_grey, write_palette

LIST = "Coco164kFull_Stuff_Coarse_7.txt"

# ------------------------------------------------------------------------------------------- VOC


def write_voc(root: Path, labels: dict[str, list[int]], listed: list[str] | None = None) -> Path:
    """Each picture 3 × n, with one column for each given label."""
    for key, columns in labels.items():
        write(root / f"JPEGImages/{key}.jpg", noise(3, len(columns)))
        write_palette(root / f"SegmentationClass/{key}.png", np.array([columns] * 3))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(listed or labels) + "\n")
    return root


VOC = {"b": [0, 255, 15, 15], "a": [0, 255, 8, 12], "c": [0, 0, 255, 0], "d": [255, 12, 12, 12]}


@pytest.mark.parametrize("inside", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_labels_and_void(inside, tmp_path):
    write_voc(tmp_path / inside, VOC)
    dataset = open_dataset("voc2012", tmp_path)
    assert dataset.keys == ("a", "b", "c", "d")
    sample = dataset.read("a")
    assert sample.labels.tolist() == [[0, -1, 8, 12]] * 3
    assert sample.void.tolist() == [[False, True, False, False]] * 3
    assert sample.mask is None
    assert dataset.classes[12] == "dog"
    assert len(dataset.classes) == 21


def test_voc_single_class_keeps_images_of_one_foreground_class(tmp_path):
    dataset = open_dataset("voc2012", write_voc(tmp_path, VOC), single_class=True)
    assert dataset.keys == ("b", "d")
    assert not dataset.problems
    sample = dataset.read("b")
    assert sample.mask.tolist() == [[False, False, True, True]] * 3
    assert sample.void.tolist() == [[False, True, False, False]] * 3
    assert sample.word == "person"
    assert sample.target is None
    assert dataset.read("d").mask.tolist() == [[False, True, True, True]] * 3


def test_voc_listed_images_that_lack_a_file_are_problems(tmp_path):
    write_voc(tmp_path, VOC, listed=["a", "b", "d", "ghost"])
    (tmp_path / "SegmentationClass/b.png").unlink()
    (tmp_path / "JPEGImages/d.jpg").unlink()
    dataset = open_dataset("voc2012", tmp_path)
    assert dataset.keys == ("a",)
    assert dataset.problems == {
        "b": "image 'b.jpg' has no label picture",
        "d": "label picture 'd.png' has no image",
        "ghost": "listed, but has neither image nor label picture",
    }


def test_voc_broken_label_picture(tmp_path):
    write_voc(tmp_path, VOC)
    cut(tmp_path / "SegmentationClass/b.png")
    assert "b.png" in refused(open_dataset("voc2012", tmp_path).read, "b")
    dataset = open_dataset("voc2012", tmp_path, single_class=True)
    assert dataset.keys == ("d",)
    assert "b.png" in dataset.problems["b"]


def test_voc_label_beyond_the_classes_is_refused(tmp_path):
    write_voc(tmp_path, {"a": [0, 21]})
    assert "holds class 21, expected 0 … 20 or 255" in refused(open_dataset("voc2012", tmp_path).read, "a")


def test_voc_coloured_labels_are_refused(tmp_path):
    write_voc(tmp_path, {"a": [0, 1]})
    write(tmp_path / "SegmentationClass/a.png", noise(3, 2))
    message = refused(open_dataset("voc2012", tmp_path).read, "a")
    assert "colour mode RGB, expected class numbers" in message


def test_voc_labels_of_another_size_are_refused(tmp_path):
    write_voc(tmp_path, {"a": [0, 1]})
    write(tmp_path / "JPEGImages/a.jpg", noise(3, 5))
    message = refused(open_dataset("voc2012", tmp_path).read, "a")
    assert "is 2 × 3 pixels" in message
    assert "5 × 3" in message


def test_voc_other_split_needs_its_list(tmp_path):
    write_voc(tmp_path, VOC)
    assert "lacks 'ImageSets/Segmentation/train.txt'" in refused(open_dataset, "voc2012", tmp_path, split="train")


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "is empty"), (b"\xff\xfe\x00", "as UTF-8 text")])
def test_voc_bad_list_is_refused(content, message, tmp_path):
    write_voc(tmp_path, VOC)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes(content)
    assert message in refused(open_dataset, "voc2012", tmp_path)


# ------------------------------------------------------------------------------------ COCO-Stuff


@pytest.mark.parametrize(
    ("images", "labels", "where"),
    [
        ("images/val2017", "annotations/val2017", f"curated/val2017/{LIST}"),
        ("val2017", "stuffthingmaps/val2017", LIST),
        ("images/val2017", "stuffthingmaps_trainval2017/val2017", f"curated/{LIST}"),
    ],
)
def test_coco_stuff_fine_labels_become_coarse(images, labels, where, tmp_path):
    for key in ("000000000139", "000000000285", "000000000632"):
        write(tmp_path / images / f"{key}.jpg", noise(2, 4))
        write_grey(tmp_path / labels / f"{key}.png", np.array([[0, 1, 156, 255], [181, 17, 123, 0]]))
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    # 632 is not on the curated list; Windows line ends, one doubled line
    (tmp_path / where).write_bytes(b"000000000285\r\n000000000139\r\n000000000139\r\n")
    dataset = open_dataset("coco-stuff27", tmp_path)
    assert dataset.keys == ("000000000139", "000000000285")
    found = dataset.read("000000000139").labels
    names = [[dataset.classes[v] if v >= 0 else None for v in row] for row in found.tolist()]
    assert names == [["person", "vehicle", "sky", None], ["solid", "animal", "plant", "person"]]


def test_coco_stuff_class_beyond_the_table_is_refused(tmp_path):
    write(tmp_path / "val2017/1.jpg", noise(1, 2))
    write_grey(tmp_path / "annotations/val2017/1.png", np.array([[182, 0]]))
    (tmp_path / LIST).write_text("1\n")
    assert "holds class 182, expected 0 … 181 or 255" in refused(open_dataset("coco-stuff27", tmp_path).read, "1")


def test_coco_stuff_without_the_curated_list_is_refused(tmp_path):
    write(tmp_path / "images/val2017/1.jpg", noise())
    write_grey(tmp_path / "annotations/val2017/1.png", noise()[..., 0])
    assert f"lacks 'curated/val2017/{LIST}'" in refused(open_dataset, "coco-stuff27", tmp_path)


def test_coarse_classes_part_the_182_classes():
    assert len(CLASSES) == len(set(CLASSES)) == 27
    assert COARSE.shape == (182,)
    members = [
        number
        for runs in MEMBERS.values()
        for run in runs.split()
        for number in range(int(run.split("-")[0]), int(run.split("-")[-1]) + 1)
    ]
    assert sorted(members) == list(range(182))
    # 91 things (with the eleven unused numbers) come first, in twelve coarse classes; 91 stuff classes in fifteen
    assert set(COARSE[:91]) == set(range(12))
    assert set(COARSE[91:]) == set(range(12, 27))


@pytest.mark.parametrize(
    ("place_in_official_list", "coarse"),
    [(1, "person"), (3, "vehicle"), (10, "outdoor"), (16, "animal"), (44, "kitchen"), (52, "food"), (62, "furniture"),
     (72, "electronic"), (78, "appliance"), (84, "indoor"), (102, "ceiling"), (118, "floor"), (119, "plant"),
     (120, "water"), (124, "plant"), (149, "ground"), (157, "sky"), (169, "plant"), (171, "wall"), (180, "window"),
     (182, "solid")],
)  # fmt: skip
def test_coarse_class_of_well_known_labels(place_in_official_list, coarse):
    assert CLASSES[COARSE[place_in_official_list - 1]] == coarse


# ------------------------------------------------------------------------------------ Cityscapes


def write_city(root: Path, city: str, stem: str, ids: np.ndarray) -> None:
    write(root / f"leftImg8bit/val/{city}/{stem}_leftImg8bit.png", noise(*ids.shape))
    write_grey(root / f"gtFine/val/{city}/{stem}_gtFine_labelIds.png", ids)


def test_cityscapes_ids_become_27_classes(tmp_path):
    ids = np.array([[0, 6, 7, 8], [23, 33, 34, 255]])
    write_city(tmp_path, "munster", "munster_000000_000019", ids)
    write_city(tmp_path, "frankfurt", "frankfurt_000000_000294", ids)
    write_grey(tmp_path / "gtFine/val/munster/munster_000000_000019_gtFine_instanceIds.png", ids)
    write(tmp_path / "gtFine/val/munster/munster_000000_000019_gtFine_color.png", noise(2, 4))
    dataset = open_dataset("cityscapes", tmp_path)
    assert dataset.keys == ("frankfurt_000000_000294", "munster_000000_000019")
    assert not dataset.problems
    assert dataset.read(dataset.keys[1]).labels.tolist() == [[-1, -1, 0, 1], [16, 26, -1, -1]]
    assert len(CITY_CLASSES) == 27
    assert (CITY_CLASSES[0], CITY_CLASSES[16], CITY_CLASSES[26]) == ("road", "sky", "bicycle")


def test_cityscapes_images_without_labels_are_problems(tmp_path):
    write_city(tmp_path, "lindau", "lindau_000000_000019", np.full((2, 4), 7))
    write(tmp_path / "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png", noise(2, 4))
    problems = open_dataset("cityscapes", tmp_path).problems
    assert problems == {
        "lindau_000001_000019": "image 'lindau_000001_000019_leftImg8bit.png' has no label picture",
    }


# ------------------------------------------------------------------------------------------- COCO panoptic


def write_panoptic(root: Path, ids: dict[str, list[int]]) -> Path:
    for key, columns in ids.items():
        write(root / f"images/{key}.jpg", noise(3, len(columns)))
        write_grey(root / f"masks/{key}.png", np.array([columns] * 3))
    return root


def test_panoptic_labels_are_ids_minus_one(tmp_path):
    dataset = open_dataset("coco-panoptic", write_panoptic(tmp_path, {"2": [0, 1, 90, 200], "1": [92, 92, 0, 0]}))
    assert dataset.keys == ("1", "2")
    assert dataset.read("2").labels.tolist() == [[-1, 0, 89, 199]] * 3
    assert dataset.read("1").labels.tolist() == [[91, 91, -1, -1]] * 3


def test_panoptic_ids_beyond_200_and_other_folders_are_refused(tmp_path):
    dataset = open_dataset("coco-panoptic", write_panoptic(tmp_path / "coco", {"1": [1, 201]}))
    assert "holds category 201, expected 1 … 200" in refused(dataset.read, "1")
    assert "coco' looks right" in refused(open_dataset, "coco-panoptic", tmp_path)
