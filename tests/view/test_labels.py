from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tokenrank import at
from tokenrank.errors import InputError
from tokenrank.tasks.palette import palette
from tokenrank.tasks.segmentation import Segmentation
from tokenrank.view import COLUMN, FULL, labels_figure, render


@pytest.fixture
def found(picture: PIL.Image.Image) -> Segmentation:
    labels = np.zeros((40, 60), int)
    labels[:10] = 1
    labels[20:, 40:] = 2
    names = ("background", "sky $1$", "猫", "gone")
    return Segmentation(labels, names, None, picture, "layer 3", None, (at(0.1, 0.1), None, None))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_names_and_areas_of_what_is_there(found: Segmentation):
    words = legend(labels_figure(found, "a title"))
    assert words[:3] == ["1", "sky $1$", "25.0%"]
    assert words[3] == "2"
    assert words[5] == "16.7%"
    assert "gone" not in words
    assert "layer 3" in " ".join(words)
    assert labels_figure(found, "a title").axes[0].get_title() == "a title"


def test_colours_of_the_legend_are_those_of_the_labels(found: Segmentation):
    figure = labels_figure(found)
    shown = [to_hex(artist.get_facecolor()) for artist in figure.artists if isinstance(artist, Rectangle)]
    assert shown == [to_hex(palette()[label] / 255) for label in (1, 2)]
    drawn = np.asarray(figure.axes[0].images[0].get_array())[..., :3]
    assert (drawn == np.asarray(found.overlay(found.picture.convert("L").convert("RGB")))).all()


def test_numbers_lie_on_their_segments(found: Segmentation):
    for text in labels_figure(found).axes[0].texts:
        x, y = text.get_position()
        assert found.labels[int(y * 40), int(x * 60)] == int(text.get_text())
    assert len(labels_figure(found).axes[0].texts) == 2
    alone = Segmentation(np.ones((40, 60), int), ("background", "x"))
    assert not labels_figure(alone).axes[0].texts


def test_numbered_segments_are_not_named_twice():
    labels = np.arange(1, 13).repeat(20).reshape(12, 20)
    words = legend(labels_figure(Segmentation(labels, ("background", *(f"segment {i}" for i in range(1, 13))))))
    assert not any("segment" in word for word in words)
    assert words.count("8.3%") == 12


@pytest.mark.parametrize("width", [FULL, COLUMN])
@pytest.mark.parametrize("count", [0, 1, 7, 90])
@pytest.mark.parametrize("size", [(40, 60), (60, 40), (200, 15), (15, 200)])
def test_nothing_overlaps_or_leaves_the_page(width: float, count: int, size: tuple[int, int]):
    labels = np.arange(size[0] * size[1]).reshape(size) % (count + 1)
    names = ("background", *(f"an object with a name, number {i}" for i in range(count)))
    found = Segmentation(labels, names, caption="layer 9 of 0–11, heads lambda2, tokens image, merge")
    figure = labels_figure(found, width=width)
    drawn = PIL.Image.open(io.BytesIO(render(figure, "png", dpi=100)))
    assert drawn.size[0] == round(width * 100)
    box = figure.axes[0].get_window_extent()
    assert box.height / box.width == pytest.approx(size[0] / size[1])
    boxes = [text.get_window_extent() for text in figure.texts]
    for one in boxes:
        assert figure.bbox.x0 <= one.x0
        assert one.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 <= one.y0
        assert one.y1 <= box.y0
    if 0 < count < 60:
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])
    assert ("the first 60 of 90 labels" in " ".join(legend(figure))) == (count == 90)


def test_a_width_without_room_is_refused(found: Segmentation):
    with pytest.raises(InputError, match=r"width = 1 inches, expected 1\.5"):
        labels_figure(found, width=1)
