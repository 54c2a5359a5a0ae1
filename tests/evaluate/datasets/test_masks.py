from __future__ import annotations

import pickle
import unicodedata
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.datasets.opening import open_dataset

from .writing import cut, disc, noise, refused, write, write_grey


def write_pair(folder: Path, stem: str, images: str = "images", masks: str = "masks", seed: int = 0) -> None:
    write(folder / images / f"{stem}.jpg", noise(seed=seed))
    write_grey(folder / masks / f"{stem}.png", disc() * 255)


@pytest.mark.parametrize(
    ("name", "images", "masks"),
    [
        ("ecssd", "images", "masks"),
        ("ecssd", "images", "ground_truth_mask"),
        ("duts", "DUTS-TE-Image", "DUTS-TE-Mask"),
        ("duts", "DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask"),
        ("dut-omron", "DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("folder", "images", "masks"),
    ],
)
def test_every_layout_is_read(name, images, masks, tmp_path):
    for number, stem in enumerate(("0002", "0001")):
        write_pair(tmp_path, stem, images, masks, number)
    dataset = open_dataset(name, tmp_path)
    assert dataset.name == name
    assert dataset.keys == ("0001", "0002")
    assert not dataset.problems
    sample = dataset.read("0001")
    assert sample.key == "0001"
    np.testing.assert_array_equal(sample.mask, disc())
    with PIL.Image.open(tmp_path / images / "0001.jpg") as stored:
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(stored.convert("RGB")))


def test_unpaired_doubled_and_hidden_files(tmp_path):
    write_pair(tmp_path, "good")
    write(tmp_path / "images/lonely.jpg", noise())
    write_grey(tmp_path / "masks/orphan.png", disc() * 255)
    write_pair(tmp_path, "twice")
    write(tmp_path / "images/twice.png", noise())
    write_pair(tmp_path, "masktwice")
    write_grey(tmp_path / "masks/masktwice.bmp", disc() * 255)
    for hidden in (".DS_Store", "._good.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / "images" / hidden).write_bytes(b"x")
    (tmp_path / "images/folder.jpg").mkdir()
    dataset = open_dataset("folder", tmp_path)
    assert dataset.keys == ("good",)
    assert dataset.problems == {
        "lonely": "image 'lonely.jpg' has no mask",
        "masktwice": "masks 'masktwice.bmp' and 'masktwice.png' share one name; keep one of them",
        "orphan": "mask 'orphan.png' has no image",
        "twice": "images 'twice.jpg' and 'twice.png' share one name; keep one of them",
    }
    assert "has no mask" in refused(dataset.read, "lonely")


def test_names_in_unicode_and_upper_case(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Käfer 日本")
    write(tmp_path / "images" / f"{decomposed}.JPG", noise(), format="JPEG")
    write_grey(tmp_path / "masks" / "Käfer 日本.PNG", disc() * 255)
    dataset = open_dataset("folder", tmp_path)
    assert dataset.keys == (unicodedata.normalize("NFC", "Käfer 日本"),)
    assert dataset.read(dataset.keys[0]).mask.sum() == disc().sum()


def test_links_are_followed_and_broken_ones_are_problems(tmp_path):
    write_pair(tmp_path / "store", "a")
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    (tmp_path / "set/images/a.jpg").symlink_to(tmp_path / "store/images/a.jpg")
    (tmp_path / "set/masks/a.png").symlink_to(tmp_path / "store/masks/a.png")
    (tmp_path / "set/images/b.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "set/masks/b.png").symlink_to(tmp_path / "store/masks/a.png")
    dataset = open_dataset("folder", tmp_path / "set")
    assert dataset.keys == ("a",)
    assert dataset.problems == {"b": "'b.jpg' is a link to a file that is not there"}
    assert dataset.read("a").mask.any()


def test_mask_threshold_lies_above_127(tmp_path):
    write(tmp_path / "images/a.png", noise(1, 4))
    write_grey(tmp_path / "masks/a.png", np.array([[0, 127, 128, 255]]))
    assert open_dataset("folder", tmp_path).read("a").mask.tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_full_masks_pass(value, tmp_path):
    write(tmp_path / "images/a.png", noise())
    write_grey(tmp_path / "masks/a.png", np.full((6, 10), value))
    assert open_dataset("folder", tmp_path).read("a").mask.mean() == value / 255


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_masks_of_every_colour_mode(mode, tmp_path):
    write(tmp_path / "images/a.png", noise())
    (tmp_path / "masks").mkdir()
    if mode == "I;16":
        picture = PIL.Image.fromarray((disc() * 65535).astype(np.uint16))
    else:
        picture = PIL.Image.fromarray((disc() * 255).astype(np.uint8)).convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "masks/a.png")
    np.testing.assert_array_equal(open_dataset("folder", tmp_path).read("a").mask, disc())


def test_a_mask_of_zeros_and_ones_is_refused(tmp_path):
    write(tmp_path / "images/a.png", noise())
    write_grey(tmp_path / "masks/a.png", disc())
    message = refused(open_dataset("folder", tmp_path).read, "a")
    assert "a.png" in message
    assert "multiply it by 255" in message


def test_a_transparent_mask_is_refused(tmp_path):
    write(tmp_path / "images/a.png", noise())
    pixels = np.full((6, 10, 4), 255, dtype=np.uint8)
    pixels[..., 3] = disc() * 255
    write(tmp_path / "masks/a.png", pixels)
    assert "has transparency" in refused(open_dataset("folder", tmp_path).read, "a")


def test_mask_of_another_size_names_both_sizes(tmp_path):
    write(tmp_path / "images/a.png", noise(6, 10))
    write_grey(tmp_path / "masks/a.png", disc(6, 12) * 255)
    message = refused(open_dataset("folder", tmp_path).read, "a")
    assert "masks/a.png' is 12 × 6 pixels" in message
    assert "images/a.png' 10 × 6" in message


def test_images_are_turned_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "images/a.png", noise(10, 6), exif=exif)
    write_grey(tmp_path / "masks/a.png", disc(6, 10) * 255)
    assert open_dataset("folder", tmp_path).read("a").image.size == (10, 6)


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_broken_files_are_named(which, how, tmp_path):
    write(tmp_path / "images/a.jpg", noise(64, 64))
    write_grey(tmp_path / "masks/a.png", noise(64, 64)[..., 0])
    if how == "truncated":
        cut(tmp_path / which)
    else:
        (tmp_path / which).write_bytes(b"" if how == "empty" else b"<html>404</html>")
    dataset = open_dataset("folder", tmp_path)
    assert which in refused(dataset.read, "a")


def test_a_file_removed_after_opening_is_named(tmp_path):
    write_pair(tmp_path, "a")
    dataset = open_dataset("folder", tmp_path)
    (tmp_path / "masks/a.png").unlink()
    assert "masks/a.png'; its folder is empty" in refused(dataset.read, "a")


def test_unknown_key_names_the_nearest(tmp_path):
    write_pair(tmp_path, "0001")
    with pytest.raises(NotFoundError, match="no sample '001'; nearest: '0001'"):
        open_dataset("folder", tmp_path).read("001")


def test_a_data_set_survives_pickling(tmp_path):
    write_pair(tmp_path, "a")
    copy = pickle.loads(pickle.dumps(open_dataset("ecssd", tmp_path)))
    assert copy.read("a").mask.any()


def test_folders_without_pictures_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "holds no usable sample of ecssd" in refused(open_dataset, "ecssd", tmp_path)


def test_folders_without_one_pair_say_why(tmp_path):
    write(tmp_path / "images/a.png", noise())
    write_grey(tmp_path / "masks/b.png", disc() * 255)
    message = refused(open_dataset, "folder", tmp_path)
    assert "2 unusable, the first 'a': image 'a.png' has no mask" in message


def test_broken_files_raise_the_public_error(tmp_path):
    write_pair(tmp_path, "a")
    cut(tmp_path / "images/a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg"):
        open_dataset("folder", tmp_path).read("a")
