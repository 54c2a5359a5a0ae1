"""Pictures with a class: folders of classes, and Parquet shards."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tokenrank.evaluate.datasets.opening import open_dataset

from .writing import cut, jpeg, noise, refused, write

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

# ---------------------------------------------------------------------------- folders of classes


def write_classes(root: Path) -> Path:
    write(root / "n02/b.JPEG", noise(), format="JPEG")
    write(root / "n01/a.JPEG", noise(), format="JPEG")
    write(root / "n01/a.png", noise())
    write(root / "n03/a.png", noise())
    return root


def test_class_is_the_place_of_the_folder(tmp_path):
    write_classes(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "n01/._a.png").write_bytes(b"x")
    dataset = open_dataset("imagenet-folder", tmp_path)
    assert dataset.keys == ("n01/a.JPEG", "n01/a.png", "n02/b.JPEG", "n03/a.png")
    assert dataset.classes == ("n01", "n02", "n03")
    sample = dataset.read("n02/b.JPEG")
    assert (sample.target, sample.word) == (1, "n02")


def test_class_without_pictures_keeps_its_number(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "n02/b.JPEG").unlink()
    write(tmp_path / "stray.png", noise())
    (tmp_path / "n01/gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = open_dataset("imagenet-folder", tmp_path)
    assert dataset.read("n03/a.png").target == 2
    assert dataset.problems == {
        "n01/gone.png": "is a link to a file that is not there",
        "n02/": "the folder of this class holds no pictures",
        "stray.png": "lies outside the folders of classes",
    }


def test_folder_above_the_classes_is_refused_and_the_right_one_named(tmp_path):
    write_classes(tmp_path / "val")
    message = refused(open_dataset, "imagenet-folder", tmp_path)
    assert f"'{tmp_path / 'val'}' looks right" in message


def test_truncated_picture_is_named(tmp_path):
    write(tmp_path / "n01/a.jpg", noise(64, 64))
    cut(tmp_path / "n01/a.jpg")
    assert "n01/a.jpg' is broken or truncated" in refused(open_dataset("imagenet-folder", tmp_path).read, "n01/a.jpg")


# --------------------------------------------------------------------------------------- Parquet


def write_shard(path: Path, count: int, first: int = 0, group: int = 2, **columns: Any) -> Path:
    """Pictures number ``first`` to ``first + count``, labelled 0, 1, 2, 0 …"""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    data = {"image": [jpeg(noise(16, 16, n)) for n in numbers], "label": [n % 3 for n in numbers], **columns}
    pq.write_table(pa.table(data), path, row_group_size=group)
    return path


def same(sample: Any, number: int) -> None:
    with PIL.Image.open(io.BytesIO(jpeg(noise(16, 16, number)))) as expected:
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(expected))


def test_rows_of_all_row_groups_in_any_order(tmp_path):
    box = pa.array([[n, 0, n + 3, 5] for n in range(5)], pa.list_(pa.int16()))
    write_shard(tmp_path / "val.parquet", 5, box=box)
    (tmp_path / "classes.txt").write_text("0\tn02\tcat\n2\tn04\tbird\n1\tn03\tdog\n", encoding="utf-8")
    dataset = open_dataset("parquet", tmp_path)
    assert dataset.keys == tuple(f"val-000000{n}" for n in range(5))
    for number in (4, 0, 3, 1, 2):
        sample = dataset.read(dataset.keys[number])
        same(sample, number)
        assert sample.target == number % 3
        assert sample.word == ("cat", "dog", "bird")[number % 3]
        assert sample.box == (number, 0, number + 4, 6)


def test_split_picks_shards_by_the_start_of_their_name(tmp_path):
    write_shard(tmp_path / "data/train-00000-of-00001.parquet", 2, first=10)
    write_shard(tmp_path / "data/val-00001-of-00002.parquet", 1, first=3)
    write_shard(tmp_path / "data/val-00000-of-00002.parquet", 3)
    dataset = open_dataset("parquet", tmp_path)
    assert len(dataset) == 4
    same(dataset.read("val-00001-of-00002-0000000"), 3)
    assert len(open_dataset("parquet", tmp_path, split="train")) == 2
    assert len(open_dataset("parquet", tmp_path, split=None)) == 6
    message = refused(open_dataset, "parquet", tmp_path, split="test")
    assert "begins with split 'test'; found: train-00000-of-00001.parquet" in message


def test_structs_with_bytes_and_labels_that_are_none(tmp_path):
    image = [{"bytes": jpeg(noise(16, 16, 0)), "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    write_shard(tmp_path / "val.parquet", 2, image=image, label=[-1, None])
    dataset = open_dataset("parquet", tmp_path)
    sample = dataset.read("val-0000000")
    same(sample, 0)
    assert (sample.target, sample.word, sample.box) == (None, None, None)
    assert "row 1 of" in refused(dataset.read, "val-0000001")


def test_pickling_keeps_no_rows(tmp_path):
    write_shard(tmp_path / "val.parquet", 5)
    dataset = open_dataset("parquet", tmp_path)
    dataset.read("val-0000001")
    stored = pickle.dumps(dataset)
    assert len(stored) < 4096
    same(pickle.loads(stored).read("val-0000001"), 1)


def test_a_shard_that_is_written_anew_is_read_anew(tmp_path):
    write_shard(tmp_path / "val.parquet", 2)
    dataset = open_dataset("parquet", tmp_path)
    dataset.read("val-0000001")
    write_shard(tmp_path / "val.parquet", 2, image=[jpeg(noise(3, 5, 7))] * 2)
    assert dataset.read("val-0000001").image.size == (5, 3)


def test_broken_picture_is_named_with_its_row(tmp_path):
    whole = jpeg(noise(64, 64))
    write_shard(tmp_path / "val.parquet", 3, image=[whole, whole[: len(whole) // 2], b"<html>"])
    dataset = open_dataset("parquet", tmp_path)
    assert dataset.read("val-0000000").image.size == (64, 64)
    assert "the picture in row 1 of" in refused(dataset.read, "val-0000001")
    assert "the picture in row 2 of" in refused(dataset.read, "val-0000002")


def test_truncated_shard_is_named(tmp_path):
    cut(write_shard(tmp_path / "val.parquet", 3))
    assert "val.parquet' is not a whole Parquet file" in refused(open_dataset, "parquet", tmp_path)


def test_missing_column_is_named(tmp_path):
    pq.write_table(pa.table({"image": [b""], "class": [0]}), tmp_path / "val.parquet")
    assert "has no column 'label'" in refused(open_dataset, "parquet", tmp_path)


def test_boxes_that_end_outside_are_an_option(tmp_path):
    write_shard(tmp_path / "val.parquet", 1, box=[[0, 1, 16, 9]])
    message = refused(open_dataset("parquet", tmp_path).read, "val-0000000")
    assert "has box [0, 1, 16, 9], expected x0, y0, x1, y1 in a picture of 16 × 16" in message
    assert "give inclusive_boxes=False" in message
    assert open_dataset("parquet", tmp_path, inclusive_boxes=False).read("val-0000000").box == (0, 1, 16, 9)


def test_a_box_of_one_pixel_is_not_empty(tmp_path):
    write_shard(tmp_path / "val.parquet", 1, box=[[3, 4, 3, 4]])
    assert open_dataset("parquet", tmp_path).read("val-0000000").box == (3, 4, 4, 5)
    message = refused(open_dataset("parquet", tmp_path, inclusive_boxes=False).read, "val-0000000")
    assert "give inclusive_boxes=True" in message


def test_a_box_of_three_numbers_is_refused(tmp_path):
    write_shard(tmp_path / "val.parquet", 1, box=[[1, 2, 3]])
    assert "has box [1, 2, 3], expected x0, y0, x1, y1" in refused(
        open_dataset("parquet", tmp_path).read, "val-0000000"
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\nbird\n", ("cat", "dog", "bird")),
        ("1\tdog\n0\tcat\n", ("cat", "dog")),
        ("7\n8\n9\n", ("7", "8", "9")),
    ],
)
def test_class_names_by_line_or_by_number(text, names, tmp_path):
    write_shard(tmp_path / "val.parquet", 1)
    (tmp_path / "classes.txt").write_text(text)
    assert open_dataset("parquet", tmp_path).classes == names


@pytest.mark.parametrize(
    ("text", "message"), [("0\tcat\n0\tdog\n", "names class 0 twice"), ("0\tcat\n2\tdog\n", "expected 0 without gaps")]
)
def test_class_names_with_gaps_or_twice_are_refused(text, message, tmp_path):
    write_shard(tmp_path / "val.parquet", 1)
    (tmp_path / "classes.txt").write_text(text)
    assert message in refused(open_dataset, "parquet", tmp_path)


def test_a_label_in_words_is_refused(tmp_path):
    write_shard(tmp_path / "val.parquet", 1, label=["cat"])
    message = refused(open_dataset("parquet", tmp_path).read, "val-0000000")
    assert "has label 'cat', expected the number of a class" in message


def test_label_beyond_the_class_names_is_refused(tmp_path):
    write_shard(tmp_path / "val.parquet", 3)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "has label 2, expected 0 … 1" in refused(open_dataset("parquet", tmp_path).read, "val-0000002")
