from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tokenrank import at
from tokenrank.errors import InputError
from tokenrank.tasks.palette import appearances, palette
from tokenrank.tasks.segmentation import Segmentation, run_lengths

LABELS = np.array([[0, 1, 1, 0], [2, 1, 0, 0], [2, 2, 0, 3]])
NAMES = ("background", "cat", "mat – “été”", "dot")


@pytest.fixture
def found() -> Segmentation:
    return Segmentation(LABELS, NAMES)


def decoded(counts: list[int], size: list[int]) -> np.ndarray:
    height, width = size
    mask, place, inside = np.zeros((height, width), dtype=bool), 0, False
    for count in counts:
        for _ in range(count):
            mask[place % height, place // height] = inside
            place += 1
        inside = not inside
    assert place == height * width
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((3, 2), bool),
        np.ones((3, 2), bool),
        np.eye(3, dtype=bool),
        np.random.default_rng(0).random((7, 5)) > 0.4,
        np.ones((1, 1), bool),
    ],
)
def test_run_lengths_are_those_of_a_decoder_written_pixel_by_pixel(mask: np.ndarray):
    found = run_lengths(mask)
    assert found["size"] == list(mask.shape)
    assert (decoded(found["counts"], found["size"]) == mask).all()
    assert all(isinstance(n, int) for n in found["counts"])
    assert all(n > 0 for n in found["counts"][1:])


def test_run_lengths_go_down_the_columns_and_begin_outside():
    assert run_lengths(np.array([[0, 1], [1, 1]], bool)) == {"size": [2, 2], "counts": [1, 3]}
    assert run_lengths(np.array([[1, 1], [0, 1]], bool)) == {"size": [2, 2], "counts": [0, 1, 1, 2]}


def test_indexed_png_is_read_back_exactly(found: Segmentation, tmp_path: Path):
    with PIL.Image.open(found.save(tmp_path / "a.png")) as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture) == LABELS).all()
        assert (np.asarray(picture.convert("RGB")) == palette()[LABELS]).all()


def test_all_255_labels_fit_a_png_and_one_more_does_not(tmp_path: Path):
    labels = np.arange(256).reshape(16, 16)
    names = [str(i) for i in range(256)]
    with PIL.Image.open(Segmentation(labels, tuple(names)).save(tmp_path / "a.png")) as picture:
        assert (np.asarray(picture) == labels).all()
    many = Segmentation(np.arange(257)[None], (*names, "256"))
    with pytest.raises(InputError, match=r"256 labels do not fit .*\.json"):
        many.save(tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
    assert len(json.loads(many.save(tmp_path / "b.json").read_text("utf-8"))["annotations"]) == 256


def test_coco_holds_every_label_that_occurs(found: Segmentation, tmp_path: Path):
    stored = json.loads(found.save(tmp_path / "a.json", "cat.jpg").read_text("utf-8"))
    assert stored["images"] == [{"id": 1, "file_name": "cat.jpg", "width": 4, "height": 3}]
    assert [c["name"] for c in stored["categories"]] == list(NAMES[1:])
    again = np.zeros_like(LABELS)
    for annotation in stored["annotations"]:
        mask = decoded(**annotation["segmentation"])
        assert annotation["image_id"] == 1
        assert annotation["area"] == mask.sum()
        x, y, width, height = annotation["bbox"]
        rows, columns = mask.nonzero()
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        again[mask] = annotation["category_id"]
    assert (again == LABELS).all()
    assert len({a["id"] for a in stored["annotations"]}) == 3


def test_coco_opens_with_pycocotools(found: Segmentation, tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    opened = coco.COCO(str(found.save(tmp_path / "a.json")))
    for annotation in opened.loadAnns(opened.getAnnIds()):
        assert (opened.annToMask(annotation) == (annotation["category_id"] == LABELS)).all()


def test_labels_that_do_not_occur_have_a_category_and_no_annotation():
    stored = Segmentation(np.zeros((2, 2), int), ("background", "gone")).coco()
    assert stored["annotations"] == []
    assert stored["categories"] == [{"id": 1, "name": "gone"}]


def test_overlay_colours_the_labels_and_leaves_the_rest(found: Segmentation):
    grey = np.full((3, 4, 3), 100, np.uint8)
    mixed = np.asarray(found.overlay(grey, 0.25))
    assert (mixed[LABELS == 0] == 100).all()
    expected = 0.75 * 100 + 0.25 * palette()[LABELS[LABELS > 0]].astype(float)
    assert np.abs(mixed[LABELS > 0] - expected).max() <= 0.5
    assert (np.asarray(found.overlay(grey, 0)) == 100).all()
    assert found.overlay(np.zeros((30, 40, 3), np.uint8)).size == (4, 3)
    with pytest.raises(InputError, match="opacity"):
        found.overlay(grey, 1.5)


def test_masks_and_areas_by_name_and_number(found: Segmentation):
    assert (found.mask("cat") == (LABELS == 1)).all()
    assert (found.mask(2) == (LABELS == 2)).all()
    assert found.areas() == pytest.approx(dict(zip(NAMES, [5 / 12, 3 / 12, 3 / 12, 1 / 12], strict=True)))
    for label in ("dog", 4, -1):
        with pytest.raises(InputError, match="no label"):
            found.mask(label)


def test_it_says_what_covers_how_much(found: Segmentation):
    assert repr(found) == "Segmentation(3 × 4 pixels: cat 25%, mat – “été” 25%, dot 8%)"
    many = Segmentation(np.arange(7)[None], tuple("abcdefg"))
    assert repr(many) == "Segmentation(1 × 7 pixels: b 14%, c 14%, d 14%, e 14%, … 6 labels)"
    assert repr(Segmentation(np.zeros((2, 2), int), ("background",))) == "Segmentation(2 × 2 pixels: background alone)"


def shown(html: str) -> PIL.Image.Image:
    (data,) = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', html)
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_notebook_shows_the_labels_over_the_picture_with_names_and_caption():
    picture = PIL.Image.fromarray(np.full((300, 400, 3), 100, np.uint8))
    labels = np.zeros((300, 400), int)
    labels[:, :100] = 1
    found = Segmentation(labels, ("background", "<cat> & co"), picture=picture, caption="layer 3, heads <lambda2>")
    html = found._repr_html_()
    assert "&lt;cat&gt; &amp; co 25.0%" in html
    assert "heads &lt;lambda2&gt;" in html
    assert np.abs(np.asarray(shown(html), float) - np.asarray(found.overlay(picture), float)).mean() < 2  # a JPEG


def test_a_small_grid_without_a_picture_is_shown_large_on_white():
    found = Segmentation(np.array([[0, 1]]), ("background", "x"))
    pixels = np.asarray(shown(found._repr_html_()))
    assert pixels.shape == (120, 240, 3)
    assert (pixels[:, :120] == 255).all()
    assert (pixels[:, 120:] == np.asarray(found.overlay())[0, 1]).all()


@pytest.mark.parametrize(
    ("labels", "names", "scores", "message"),
    [
        (np.zeros((2, 2)), ("a",), None, "whole numbers"),
        (np.zeros(4, int), ("a",), None, r"\(4,\)"),
        (np.full((2, 2), 2), ("a", "b"), None, "expected 0 to 1"),
        (np.full((2, 2), -1), ("a", "b"), None, "go from -1"),
        (np.zeros((2, 2), int), ("a", "b"), np.zeros((2, 2, 2)), r"expected \(1, 2, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(labels, names, scores, message):
    with pytest.raises(InputError, match=message):
        Segmentation(labels, names, scores)


def test_paths_that_cannot_be_written_are_refused(found: Segmentation, tmp_path: Path):
    with pytest.raises(InputError, match=r"\.png"):
        found.save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no folder"):
        found.save(tmp_path / "none" / "a.png")


def test_palette_is_black_first_and_tells_neighbours_apart():
    colours = palette()
    assert colours.shape == (256, 3)
    assert (colours[0] == 0).all()
    assert len({tuple(c) for c in colours.tolist()}) == 256
    first = colours[1:21].astype(float)
    distance = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e3 * np.eye(20)
    assert distance.min() > 25
    with pytest.raises(ValueError, match="read-only"):
        colours[0] = 1


def test_colours_are_told_apart_by_colour_blind_readers():
    """Distances in OKLab to four kinds of eye; one just seen by everybody is about 0.02."""
    for count, least in ((4, 0.15), (7, 0.07), (16, 0.07)):
        seen = appearances(palette()[1 : count + 1])
        distance = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1) + np.eye(count)
        assert distance.min((1, 2)).min() > least
    red_and_green = appearances(np.array([[200, 60, 40], [90, 130, 40]]))
    distance = np.linalg.norm(red_and_green[:, 0] - red_and_green[:, 1], axis=-1)
    assert distance[1] < 0.7 * distance[0], "red and green are closer to who has no long cones"


def started(*marks) -> Segmentation:
    names = ("background", *(f"object {i + 1}" for i in range(len(marks))))
    return Segmentation(np.zeros((60, 90), int), names, starts=marks)


def test_starts_are_drawn_in_the_colours_of_their_labels():
    inside = np.zeros((60, 90), bool)
    inside[35:55, 50:80] = True
    found = started(at(0.2, 0.5), (0.5, 0.1, 0.8, 0.4), inside, None)
    grey = np.full((60, 90, 3), 100, np.uint8)
    drawn = np.asarray(found.overlay(grey))
    near = [np.abs(drawn.astype(int) - palette()[label]).max(-1) < 32 for label in (1, 2, 3, 4)]
    assert near[0][30, 18]
    for label, (top, left, bottom, right) in ((1, (6, 45, 24, 72)), (2, (35, 50, 55, 80))):  # a box, a mask
        lines = np.zeros((60, 90), bool)
        lines[top - 1 : bottom + 1, left - 1 : right + 1] = True
        lines[top + 1 : bottom - 1, left + 1 : right - 1] = False
        assert near[label].sum() > 30
        assert not (near[label] & ~lines).any()
        assert (drawn[top + 4 : bottom - 4, left + 4 : right - 4] == 100).all(), "what is inside is left alone"
    assert not near[3].any()
    assert (np.asarray(found.overlay(grey, starts=False)) == 100).all()


def test_starts_do_not_hide_the_labels_of_a_small_grid():
    found = Segmentation(np.ones((12, 12), int), ("background", "x"), starts=(at(0.5, 0.5),))
    assert len(np.unique(np.asarray(found.overlay()).reshape(-1, 3), axis=0)) == 1


def test_starts_belong_to_labels():
    with pytest.raises(InputError, match="2 starts of 1 labels"):
        Segmentation(np.zeros((2, 2), int), ("background", "x"), starts=(None, None))
