from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from tests.evaluate.protocol_cases import Listed, gives, picture, rows_of
from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.protocols import Clustering, Regions, Segmenter, parse_segmenters
from tokenrank.evaluate.protocols.observe import observe_image
from tokenrank.evaluate.protocols.segmentation import central_square
from tokenrank.models import Model, load


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


def quarters(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.arange(height) * 2 // height, np.arange(width) * 2 // width
    return (2 * y[:, None] + x).astype(np.int64)


HALVES = quarters() % 2
SAMPLE = Sample("a", picture(), regions=(quarters() + 1, HALVES + 1))


def divides(name: str, labels: np.ndarray) -> Segmenter:
    return Segmenter(name, lambda observation, size, k: labels, fixed=True)


def test_segmenters_give_labels_of_the_picture_without_gaps(model: Model):
    observation = observe_image(model, picture(), 64)
    for segmenter in parse_segmenters("merge,metastable:heads=lambda2,kmeans:layer=3,blocks"):
        assert not segmenter.fixed
        for k in (2, 4):
            labels = segmenter.run(observation, (48, 64), k)
            assert labels.shape == (48, 64)
            assert labels.dtype == np.int64
            assert list(np.unique(labels)) == list(range(labels.max() + 1))
            assert labels.max() + 1 <= k
    assert [s.fixed for s in parse_segmenters("merge:tau=1.1,metastable:k=3,merge:anchors=4")] == [True, True, False]


def test_blocks_are_nearest_to_squares(model: Model):
    observation = observe_image(model, picture(), 64)
    blocks = parse_segmenters("blocks")[0]
    assert (blocks.run(observation, (48, 64), 4) == quarters()).all()
    assert (blocks.run(observation, (48, 64), 2) == HALVES).all()
    tall = blocks.run(observation, (64, 48), 2)
    assert (tall == (np.arange(64) >= 32)[:, None]).all()
    with pytest.raises(InputError, match="no grid of 7 rectangles fits"):
        blocks.run(observation, (3, 4), 7)


def test_kmeans_depends_on_the_seed_of_the_image_alone(model: Model):
    observation = observe_image(model, picture(), 64)
    kmeans = parse_segmenters("kmeans:k=5")[0]
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(kmeans.run(observation, (48, 64), None))
    assert (found[0] == found[1]).all()


def test_segmenters_that_are_none_are_refused():
    with pytest.raises(NotFoundError, match="no segmenter 'merg'; nearest: 'merge'"):
        parse_segmenters("merg")
    with pytest.raises(InputError, match="has no option 'alpha=1'; its options: k, layer, heads"):
        parse_segmenters("metastable:alpha=1")
    with pytest.raises(InputError, match="'k=two' of segmenter 'kmeans': expected a whole number"):
        parse_segmenters("kmeans:k=two")
    with pytest.raises(InputError, match="none twice"):
        parse_segmenters("kmeans,kmeans")
    with pytest.raises(InputError, match="one at least"):
        parse_segmenters(" , ")


def test_regions_pool_scales_over_pictures(model: Model):
    other = Sample("b", picture(32, 32, 1), regions=(quarters(32, 32) + 1,))
    protocol = Regions(scales=(2, 4), size=64)
    rows = rows_of(protocol, model, [SAMPLE, other], protocol.methods("blocks"))
    # "a": four quarters by one annotator, two halves by another; "b": four quarters
    area, other_area = 48 * 64, 32 * 32
    assert rows.area.to_list() == [2 * area, other_area]
    # k = 2: halves cover halves wholly, quarters by one half; k = 4 the other way round
    assert rows.covered[0] == pytest.approx([1.5 * area, 1.5 * area])
    assert rows.covered[1] == pytest.approx([0.5 * other_area, other_area])
    assert rows.best.to_list() == pytest.approx([2 * area, other_area])
    assert rows.information[0] == pytest.approx([0.5, 0.5])
    summary = protocol.summary(rows).loc["blocks"]
    assert summary.covering_ods == pytest.approx((1.5 * area + other_area) / (2 * area + other_area))
    assert summary.covering_ois == pytest.approx(summary.covering_ods)
    assert summary.covering_best == pytest.approx(1)
    assert summary.covering_k == 4
    assert summary.information_ods == pytest.approx((0.5 + 0) / 2)


def test_segmenter_with_a_number_of_its_own_is_the_same_at_all_scales(model: Model):
    protocol = Regions(scales=(2, 3), size=64)
    rows = rows_of(protocol, model, [SAMPLE], [divides("human", quarters()), *protocol.methods("blocks:k=2")])
    assert rows.segments.to_list() == [[4, 4], [2, 2]]
    summary = protocol.summary(rows)
    assert summary.at["human", "covering_ods"] == pytest.approx(0.75)


def test_clustering_matches_segments_to_classes_in_every_picture(model: Model):
    labels = np.array([3, 1, 0, 3])[quarters(64, 64)].astype(np.int64)
    labels[:8] = -1
    sample = Sample("a", picture(64, 64), labels=labels)
    protocol = Clustering(classes=5, pixels=64, size=64)
    perfect = divides("perfect", np.array([7, 2, 0, 7])[quarters(64, 64)])
    split = divides("split", quarters(64, 64))
    rows = rows_of(protocol, model, [sample], [perfect, split])
    assert rows.accuracy.to_list() == pytest.approx([1, 1 - 24 * 32 / (56 * 64)])
    assert rows.labelled.to_list() == [56 * 64] * 2
    table = np.asarray(rows.histogram[1]).reshape(5, -1)
    assert table.sum() == 56 * 64
    assert table[3, 0] == 24 * 32
    summary = protocol.summary(rows)
    assert summary.at["perfect", "miou"] == pytest.approx(1)
    assert summary.at["split", "accuracy"] == summary.at["split", "accuracy_strict"]
    # the spare quarter goes to a class that is not there, and counts as found falsely
    assert summary.at["split", "miou"] < summary.at["split", "miou_strict"]
    assert summary.at["split", "miou_strict"] == pytest.approx((1 + 1 + 32 / 56) / 3)
    assert summary.at["split", "segments"] == 4


def test_clustering_sums_counts_over_pictures(model: Model):
    samples = [
        Sample(key, picture(64, 64, seed), labels=np.roll(quarters(64, 64), seed, 1)) for seed, key in enumerate("abc")
    ]
    protocol = Clustering(classes=4, pixels=32, size=32)
    rows = rows_of(protocol, model, samples, protocol.methods("merge:k=4,metastable:k=3,blocks:k=4"))
    summary = protocol.summary(rows)
    for method in summary.index:
        mine = rows[rows.method == method]
        tp, fp, fn = (np.stack(mine[part].to_list()).sum(0) for part in ("tp", "fp", "fn"))
        assert summary.at[method, "accuracy"] == pytest.approx(tp.sum() / mine.labelled.sum())
        assert summary.at[method, "miou"] == pytest.approx((tp / (tp + fp + fn)).mean())


def test_central_square_keeps_labels_as_they_are():
    labels = np.arange(6 * 10).reshape(6, 10)
    image, square = central_square(PIL.Image.new("RGB", (10, 6)), labels, 3)
    assert image.size == (3, 3)
    assert square.tolist() == labels[np.ix_([0, 2, 4], [2, 4, 6])].tolist()
    assert (central_square(PIL.Image.new("RGB", (10, 6)), labels, 6)[1] == labels[:, 2:8]).all()


def test_what_cannot_be_used_is_refused(model: Model):
    with pytest.raises(InputError, match="scales = "):
        Regions(scales=(2, 2))
    with pytest.raises(InputError, match="has no regions"):
        Regions().check(Listed(Sample("a", picture())))
    with pytest.raises(InputError, match="'map' gives a map, expected a segmenter"):
        Regions(size=64).rows(model, SAMPLE, [gives("map", np.zeros(48))])
    labels = np.zeros((48, 64), dtype=np.int64)
    with pytest.raises(InputError, match="has 2 classes, the protocol 27; give classes=2"):
        Clustering().check(Listed(Sample("a", picture(), labels=labels), classes=("sky", "tree")))
    with pytest.raises(InputError, match="no labelled pixel"):
        Clustering(pixels=16).rows(model, Sample("a", picture(), labels=labels - 1), parse_segmenters("blocks:k=2"))
    with pytest.raises(InputError, match="needs the number of segments: kmeans:k=6"):
        Clustering(pixels=16, size=16).rows(model, Sample("a", picture(), labels=labels), parse_segmenters("kmeans"))
