from __future__ import annotations

import sys

import pytest

from tokenrank.errors import MissingExtraError, NotFoundError
from tokenrank.evaluate.datasets.opening import DATASETS, open_dataset

from .writing import disc, noise, refused, write, write_grey


def test_unknown_name_lists_the_nearest(tmp_path):
    with pytest.raises(NotFoundError, match="no data set 'voc12'; nearest: 'voc2012'"):
        open_dataset("voc12", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_is_refused_with_a_drawing(name, tmp_path):
    message = refused(open_dataset, name, tmp_path)
    first, *tree = message.splitlines()
    assert str(tmp_path) in first
    assert first.endswith("Expected:")
    assert "looks right" not in first
    assert len(tree) >= 2


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_folder_is_refused(name, tmp_path):
    (tmp_path / "ECSSD").mkdir()
    assert "nearest: 'ECSSD'" in refused(open_dataset, name, tmp_path / "ecsd")


@pytest.mark.parametrize("name", DATASETS)
def test_a_file_in_place_of_a_folder_is_refused(name, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    message = refused(open_dataset, name, tmp_path / "a.zip")
    assert "a.zip' is a file" in message or "a.zip' is not a whole MATLAB v7.3 (HDF5) file" in message


def test_missing_part_is_named(tmp_path):
    (tmp_path / "DUTS-TE-Image").mkdir()
    assert "lacks 'DUTS-TE-Mask'." in refused(open_dataset, "duts", tmp_path)


@pytest.mark.parametrize("given", ["", "outer", "outer/ECSSD/images"])
def test_a_folder_nearby_that_looks_right_is_named(given, tmp_path):
    right = tmp_path / "outer/ECSSD"
    write(right / "images/a.png", noise())
    write_grey(right / "masks/a.png", disc() * 255)
    assert f"'{right}' looks right" in refused(open_dataset, "ecssd", tmp_path / given)


def test_unknown_option_lists_those_there_are(tmp_path):
    message = refused(open_dataset, "voc2012", tmp_path, singleclass=True)
    assert message == "data set 'voc2012' has no option 'singleclass'; its options: split, single_class"
    assert "its options: none" in refused(open_dataset, "ecssd", tmp_path, split="val")


@pytest.mark.parametrize(
    ("name", "file", "module"),
    [("imagenet-segmentation", "gtsegs_ijcv.mat", "h5py"), ("parquet", "val.parquet", "pyarrow")],
)
def test_a_reader_that_is_not_installed_is_named_with_its_cure(name, file, module, tmp_path, monkeypatch):
    (tmp_path / file).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks what cannot be imported
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[evaluate\]'"):
        open_dataset(name, tmp_path)
