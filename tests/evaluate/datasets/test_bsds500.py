from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenrank.evaluate.datasets.opening import open_dataset

from .writing import cut, noise, refused, write

io = pytest.importorskip("scipy.io")

FIRST = np.array([[1, 1, 2], [5, 5, 2]], dtype=np.uint16)
SECOND = np.array([[3, 3, 3], [3, 9, 9]], dtype=np.uint16)


def write_truth(path: Path, segmentations: list[Any], field: str = "Segmentation") -> Path:
    """A 1 × n cell array of structs, as the benchmark's MATLAB v5 files have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(segmentations)), dtype=object)
    for place, segmentation in enumerate(segmentations):
        cells[0, place] = {field: segmentation, "Boundaries": np.zeros((2, 3), dtype=bool)}
    io.savemat(path, {"groundTruth": cells}, do_compression=True)
    return path


def write_bsds(root: Path, split: str = "", keys: tuple[str, ...] = ("100007", "3096")) -> Path:
    for key in keys:
        write(root / "images" / split / f"{key}.jpg", noise(2, 3))
        write_truth(root / "groundTruth" / split / f"{key}.mat", [FIRST, SECOND])
    (root / "images" / split / "Thumbs.db").write_bytes(b"x")
    return root


@pytest.mark.parametrize("inside", ["", "data", "BSDS500/data", "BSR/BSDS500/data"])
@pytest.mark.parametrize("split", ["", "test"])
def test_every_layout_is_read_without_gaps_in_the_labels(inside, split, tmp_path):
    write_bsds(tmp_path / inside, split)
    dataset = open_dataset("bsds500", tmp_path)
    assert dataset.keys == ("100007", "3096")
    assert not dataset.problems
    first, second = dataset.read("3096").regions
    assert first.tolist() == [[1, 1, 2], [3, 3, 2]]
    assert second.tolist() == [[1, 1, 1], [1, 2, 2]]
    assert first.dtype == np.int64


def test_a_split_is_chosen_by_name(tmp_path):
    write_bsds(tmp_path, "val", ("1",))
    write_bsds(tmp_path, "test", ("2", "3"))
    assert open_dataset("bsds500", tmp_path).keys == ("2", "3")
    assert open_dataset("bsds500", tmp_path, split="val").keys == ("1",)


def test_a_split_that_is_not_there_is_refused(tmp_path):
    write_bsds(tmp_path, "val")
    message = refused(open_dataset, "bsds500", tmp_path)
    assert "has no split 'test'; there is 'val': give split='val'" in message


def test_a_split_of_a_folder_without_splits_is_refused(tmp_path):
    write_bsds(tmp_path)
    assert "has no folders of splits" in refused(open_dataset, "bsds500", tmp_path, split="val")


def test_images_without_segmentation_are_problems(tmp_path):
    write_bsds(tmp_path)
    (tmp_path / "groundTruth/3096.mat").unlink()
    assert open_dataset("bsds500", tmp_path).problems == {"3096": "image '3096.jpg' has no segmentation"}


def test_segmentation_of_another_size_is_refused(tmp_path):
    write_bsds(tmp_path)
    write_truth(tmp_path / "groundTruth/3096.mat", [FIRST, SECOND.T])
    assert "is 2 × 3 pixels" in refused(open_dataset("bsds500", tmp_path).read, "3096")


def test_broken_files_are_refused(tmp_path):
    write_bsds(tmp_path)
    dataset = open_dataset("bsds500", tmp_path)
    path = tmp_path / "groundTruth/3096.mat"
    cut(path)
    assert "3096.mat' cannot be read as a MATLAB v5 file" in refused(dataset.read, "3096")
    io.savemat(path, {"segments": FIRST})
    assert "has no 'groundTruth'; found: segments" in refused(dataset.read, "3096")
    io.savemat(path, {"groundTruth": FIRST})
    assert "is not a cell array of structs" in refused(dataset.read, "3096")
    write_truth(path, [FIRST], field="Regions")
    assert "is not a cell array of structs with Segmentation" in refused(dataset.read, "3096")
    write_truth(path, [])
    assert "is empty" in refused(dataset.read, "3096")
    write_truth(path, ["words"])
    assert "expected numbers (rows, columns)" in refused(dataset.read, "3096")


def test_one_wrong_byte_in_a_compressed_file_is_refused(tmp_path):
    write_bsds(tmp_path)
    dataset = open_dataset("bsds500", tmp_path)
    path = tmp_path / "groundTruth/3096.mat"
    whole = path.read_bytes()
    for place in range(136, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        assert "cannot be read as a MATLAB v5 file" in refused(dataset.read, "3096")
    path.write_bytes(whole)
    assert len(dataset.read("3096").regions) == 2


def test_an_uncompressed_file_is_read(tmp_path):
    write_bsds(tmp_path)
    path = tmp_path / "groundTruth/3096.mat"
    io.savemat(path, {"groundTruth": io.loadmat(path)["groundTruth"]}, do_compression=False)
    assert len(open_dataset("bsds500", tmp_path).read("3096").regions) == 2


def test_matlab_73_is_refused_with_a_cure(tmp_path):
    write_bsds(tmp_path)
    header = b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM"
    (tmp_path / "groundTruth/3096.mat").write_bytes(header.ljust(512, b"\x00"))
    assert "save it with -v7" in refused(open_dataset("bsds500", tmp_path).read, "3096")
