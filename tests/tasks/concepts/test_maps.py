"""ConceptMaps: labels, pixels, files, pages; what it refuses."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import InputError, NotFoundError
from tokenrank.tasks import ConceptMaps

VALUES = torch.tensor([[[0.7, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.4, 0.4]]])


def picture(width: int = 8, height: int = 6) -> PIL.Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def made(**more) -> ConceptMaps:
    return ConceptMaps(VALUES, ("cat", "mat"), **more)


def test_labels_are_the_word_above_its_mean_or_background():
    assert made().labels().tolist() == [[1, 0], [2, 2]]
    assert made(cut=None).labels().tolist() == [[1, 1], [2, 2]]  # equal values: the first word
    assert made(cut="softmax").labels().tolist() == [[1, 1], [2, 2]]
    assert made(cut="ncut", thresholds=(0.05, 0.5)).labels().tolist() == [[1, 1], [1, 1]]
    assert ConceptMaps(torch.full((1, 2, 2), 0.25), ("cat",)).labels().tolist() == [[0, 0], [0, 0]]


def test_labels_of_pixels_are_those_of_the_enlarged_maps():
    found = made().labels((6, 8))
    assert found.shape == (6, 8)
    large = torch.nn.functional.interpolate(VALUES[None], (6, 8), mode="bilinear", align_corners=False)[0].double()
    inside = large > large.mean((1, 2), keepdim=True)
    wanted = torch.where(inside.any(0), torch.where(inside, large, -1.0).argmax(0) + 1, 0)
    assert (found == wanted.numpy()).all()


def test_a_map_is_a_token_map_over_the_patches():
    one = made(picture=picture(), caption="how").map("mat")
    assert one.grid().tolist() == VALUES[1].tolist()
    assert "how" in one.caption
    assert "mat" in one.caption
    assert one.overlay().size == (8, 6)
    with pytest.raises(NotFoundError, match="'cat'"):
        made().map("cta")


def test_a_segmentation_has_the_pictures_size_and_the_words_names():
    found = made(picture=picture(), caption="how").segmentation((0.5, 0.25))
    assert isinstance(found, tr.tasks.Segmentation)
    assert found.names == ("background", "cat", "mat")
    assert found.size == (6, 8)
    assert found.scores is not None
    assert found.scores.shape == (2, 6, 8)
    assert (found.labels == made().labels((6, 8))).all()
    assert found.strengths == (0.5, 0.25)
    assert made().segmentation().size == (2, 2)


@pytest.mark.parametrize("with_picture", [False, True])
def test_files_and_pages(tmp_path, with_picture):
    maps = made(picture=picture() if with_picture else None, caption="how it was made")
    assert (np.load(maps.save(tmp_path / "maps.npy")) == VALUES.numpy()).all()
    width, height = PIL.Image.open(maps.save(tmp_path / "maps.png")).size
    assert width > height
    page = maps._repr_html_()
    assert page.count("<img") == 2 + with_picture
    assert "how it was made" in page
    assert ">cat<" in page
    with pytest.raises(InputError, match=r"expected \.png"):
        maps.save(tmp_path / "maps.txt")


def test_words_of_others_act_on_no_page_and_no_terminal():
    maps = ConceptMaps(VALUES, ("<b>x</b>", "a\x1b[31mb"))
    assert "<b>x" not in maps._repr_html_()
    assert "\x1b" not in repr(maps)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"values": VALUES[0], "words": ("cat",)}, r"expected \(words, rows, columns\)"),
        ({"values": VALUES, "words": ("cat",)}, "for 1 words"),
        ({"values": -VALUES, "words": ("cat", "mat")}, "negative"),
        ({"values": VALUES * float("nan"), "words": ("cat", "mat")}, "no numbers"),
        ({"values": VALUES, "words": ("cat", "cat")}, "twice"),
        ({"values": VALUES, "words": ("cat", "mat"), "cut": "otsu"}, "cut = 'otsu'"),
        ({"values": VALUES, "words": ("cat", "mat"), "cut": "ncut"}, "thresholds = None"),
        ({"values": VALUES, "words": ("cat", "mat"), "thresholds": (0.1, 0.2)}, "with cut = 'mean'"),
    ],
)
def test_what_cannot_be_maps_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        ConceptMaps(**given)
