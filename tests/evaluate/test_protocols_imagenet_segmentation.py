from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from tests.evaluate.protocol_cases import Listed, block, gives, picture, rows_of
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.protocols import ImageNetSegmentation, VocSingle
from tokenrank.evaluate.protocols.observe import observe_square
from tokenrank.models import Model, load


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


SAMPLES = [Sample("a", picture(), mask=block()), Sample("b", picture(40, 56, 1), mask=block(56, 40))]
MAP = np.random.default_rng(5).random((4, 4))


def square(mask: np.ndarray, side: int = 32) -> np.ndarray:
    resized = PIL.Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), PIL.Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def at_32(values: np.ndarray) -> np.ndarray:
    """Bilinear interpolation between the middles of cells, edges repeated, in float64."""
    places = np.clip((np.arange(32) + 0.5) / 8 - 0.5, 0, 3)
    low = np.minimum(places.astype(int), 2)
    weights = np.zeros((32, 4))
    weights[np.arange(32), low] = 1 - (places - low)
    weights[np.arange(32), low + 1] = places - low
    return weights @ values @ weights.T


def test_figures_come_from_counts_summed_over_the_data_set(model: Model):
    from sklearn.metrics import average_precision_score, f1_score

    protocol = ImageNetSegmentation(side=32)
    rows = rows_of(protocol, model, SAMPLES, [gives("map", MAP)])
    scores = at_32(MAP)
    scores = np.round((scores - scores.min()) / (scores.max() - scores.min()), 9)
    found = scores > scores.mean()
    masks = [square(s.mask) for s in SAMPLES]
    tp, fp = sum((found & m).sum() for m in masks), sum((found & ~m).sum() for m in masks)
    fn, tn = sum((~found & m).sum() for m in masks), sum((~found & ~m).sum() for m in masks)
    summary = protocol.summary(rows).loc["map"]
    assert summary.accuracy == pytest.approx((tp + tn) / (2 * 32 * 32))
    assert summary.miou == pytest.approx((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)
    assert summary.acc_ratio == pytest.approx(summary.accuracy / (2 - summary.accuracy))
    ap = [
        average_precision_score(np.r_[~m.ravel(), m.ravel()], np.r_[1 - scores.ravel(), scores.ravel()]) for m in masks
    ]
    assert summary["map"] == pytest.approx(np.mean(ap))
    assert summary.f1 == pytest.approx(np.mean([f1_score(m.ravel(), found.ravel()) for m in masks]))
    assert "stacked_accuracy" not in summary
    assert rows.miou.mean() != pytest.approx(summary.miou)


def test_picture_is_squeezed_and_class_methods_explain_the_predicted_class(model: Model):
    observation = observe_square(model, SAMPLES[0].image, 32)
    assert observation.grid == (4, 4)
    settings = model.images
    assert settings is not None
    small = SAMPLES[0].image.resize((32, 32), PIL.Image.Resampling.BILINEAR)
    expected = (np.asarray(small, dtype=np.float32) / 255 - np.float32(settings.mean)) / np.float32(settings.std)
    pixels = next(value for value in observation.inputs.values() if isinstance(value, torch.Tensor))
    assert np.allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)

    protocol = ImageNetSegmentation(side=32)
    methods = protocol.methods("grad_cam,generic_relevance,transformer_attribution,cls_row,tokenrank")
    rows = protocol.rows(model, SAMPLES[0], methods)
    assert [row["method"] for row in rows] == [method.name for method in methods]
    assert all(row["tp"] + row["fp"] + row["fn"] + row["tn"] == 32 * 32 for row in rows)


def test_void_pixels_do_not_count_and_are_half_wrong_in_the_stacked_accuracy(model: Model):
    void = np.zeros((48, 64), dtype=bool)
    void[:12] = True
    sample = Sample("a", picture(), mask=block(), void=void)
    protocol = VocSingle(side=32)
    rows = rows_of(protocol, model, [sample], [gives("map", MAP)])
    outside = square(void)
    correct = ((at_32(MAP) > at_32(MAP).mean()) == square(block()))[~outside].sum()
    counted = (~outside).sum()
    assert rows.void[0] == outside.sum() == 8 * 32
    summary = protocol.summary(rows).loc["map"]
    assert summary.accuracy == pytest.approx(correct / counted)
    assert summary.stacked_accuracy == pytest.approx(2 * correct / (2 * counted + outside.sum()))
    with pytest.raises(InputError, match="every pixel of sample 'a' is void"):
        protocol.rows(model, Sample("a", picture(), mask=block(), void=np.ones((48, 64), bool)), [gives("map", MAP)])


def test_average_precision_depends_on_the_normalisation(model: Model):
    rows = [
        ImageNetSegmentation(side=32, raw=raw).rows(model, SAMPLES[0], [gives("map", 0.1 * MAP)])[0]
        for raw in (False, True)
    ]
    assert rows[0]["tp"] == rows[1]["tp"]
    assert abs(rows[0]["ap"] - rows[1]["ap"]) > 1e-3


def test_what_cannot_be_used_is_refused(model: Model):
    with pytest.raises(InputError, match="side = 0"):
        ImageNetSegmentation(side=0)
    with pytest.raises(InputError, match="has no mask"):
        ImageNetSegmentation().check(Listed(Sample("a", picture())))
    with pytest.raises(InputError, match="'bounce:n=2' asks for a seed"):
        ImageNetSegmentation().methods("bounce:n=2")
