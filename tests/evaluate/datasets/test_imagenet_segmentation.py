from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenrank.evaluate.datasets.opening import open_dataset

from .writing import cut, disc, noise, refused

h5py = pytest.importorskip("h5py")


def write_mat(path: Path, pictures: list[Any], masks: list[Any], words: list[str], flat: bool = False) -> Path:
    """A struct array as MATLAB v7.3 saves it.

    512 bytes of MATLAB's header, fields as tables of references into ``#refs#``, arrays column first, a cell for each
    mask.
    """
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        count = 0

        def store(array: Any, kind: str) -> Any:
            nonlocal count
            node = refs.create_dataset(f"r{count}", data=array)
            node.attrs["MATLAB_class"] = np.bytes_(kind)
            count += 1
            return node.ref

        def table(references: list[Any]) -> Any:
            array = np.empty((1, len(references)) if flat else (len(references), 1), dtype=h5py.ref_dtype)
            array.flat[:] = references
            return array

        def cell(mask: Any) -> Any:
            array = np.empty((1, 1), dtype=h5py.ref_dtype)
            array[0, 0] = store(mask.T, "uint8")
            return store(array, "cell")

        value = file.create_group("value")
        value.attrs["MATLAB_class"] = np.bytes_("struct")
        img = [store(picture.transpose(*range(picture.ndim)[::-1]), "uint8") for picture in pictures]
        ids = [store(np.array([[ord(c)] for c in word], dtype=np.uint16), "char") for word in words]
        for field, references in (("img", img), ("gt", [cell(m) for m in masks]), ("id", ids)):
            value.create_dataset(field, data=table(references), dtype=h5py.ref_dtype)
    header = b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM"
    with path.open("r+b") as stream:
        stream.write(header)
    return path


@pytest.fixture
def mat(tmp_path):
    pictures = [noise(6, 10, seed) for seed in range(3)]
    masks = [np.roll(disc(), seed, axis=1).astype(np.uint8) for seed in range(3)]
    return write_mat(tmp_path / "gtsegs_ijcv.mat", pictures, masks, ["n02084071", "n01503061", "n00000001"])


@pytest.mark.parametrize("give_file", [True, False])
def test_pictures_masks_and_ids_are_read_the_right_way_round(give_file, mat):
    dataset = open_dataset("imagenet-segmentation", mat if give_file else mat.parent)
    assert dataset.keys == ("00000", "00001", "00002")
    sample = dataset.read("00001")
    np.testing.assert_array_equal(np.asarray(sample.image), noise(6, 10, 1))
    np.testing.assert_array_equal(sample.mask, np.roll(disc(), 1, axis=1))
    assert sample.word == "n01503061"
    assert sample.target is None


def test_rows_of_references_are_read_too(tmp_path):
    path = write_mat(tmp_path / "a.mat", [noise(seed=s) for s in range(2)], [disc() * 1] * 2, ["n1", "n2"], flat=True)
    dataset = open_dataset("imagenet-segmentation", path)
    assert [dataset.read(key).word for key in dataset.keys] == ["n1", "n2"]
    np.testing.assert_array_equal(np.asarray(dataset.read("00001").image), noise(seed=1))


def test_one_grey_picture(tmp_path):
    path = write_mat(tmp_path / "a.mat", [noise()[..., 0]], [disc() * 1], ["n1"])
    image = np.asarray(open_dataset("imagenet-segmentation", path).read("00000").image)
    np.testing.assert_array_equal(image, np.repeat(noise()[..., :1], 3, axis=2))


def test_survives_pickling(mat):
    dataset = pickle.loads(pickle.dumps(open_dataset("imagenet-segmentation", mat)))
    assert dataset.read("00002").word == "n00000001"


def test_truncated_file_is_refused(mat):
    cut(mat)
    assert "is not a whole MATLAB v7.3 (HDF5) file" in refused(open_dataset, "imagenet-segmentation", mat)


def test_old_matlab_file_is_refused(tmp_path):
    io = pytest.importorskip("scipy.io")
    io.savemat(tmp_path / "gtsegs_ijcv.mat", {"value": 1})
    assert "is not a whole MATLAB v7.3 (HDF5) file" in refused(open_dataset, "imagenet-segmentation", tmp_path)


def test_another_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "gtsegs_ijcv.mat", "w") as file:
        file["weights"] = [1]
    message = refused(open_dataset, "imagenet-segmentation", tmp_path)
    assert "has no /value/img" in message
    assert "found: weights" in message


def test_a_field_of_another_kind_is_refused(mat):
    with h5py.File(mat, "r+") as file:
        del file["value/gt"]
        file.create_group("value/gt")
    assert "is a Group, expected a table" in refused(open_dataset, "imagenet-segmentation", mat)


def test_fields_of_different_length_are_refused(tmp_path):
    path = write_mat(tmp_path / "a.mat", [noise()], [disc() * 1] * 2, ["n1"])
    assert "expected as many of each" in refused(open_dataset, "imagenet-segmentation", path)


def test_a_reference_that_leads_nowhere_is_refused_at_reading(mat):
    with h5py.File(mat, "r+") as file:
        file["value/img"][1, 0] = h5py.Reference()
    dataset = open_dataset("imagenet-segmentation", mat)
    assert "entry 1 of" in refused(dataset.read, "00001")
    assert dataset.read("00002").word == "n00000001"


@pytest.mark.parametrize(
    ("picture", "mask", "message"),
    [
        (noise(6, 9), disc() * 1, "is 10 × 6 pixels, its image 'image 0' 9 × 6"),
        (noise(), disc() * 7, "values up to 7"),
        (noise().astype(np.uint16), disc() * 1, "is uint16, expected uint8"),
        (noise()[..., :2], disc() * 1, "has shape (2, 10, 6), expected (3, columns, rows)"),
    ],
)
def test_entries_of_wrong_shape_or_type_are_refused(picture, mask, message, tmp_path):
    path = write_mat(tmp_path / "a.mat", [picture], [mask], ["n1"])
    assert message in refused(open_dataset("imagenet-segmentation", path).read, "00000")
