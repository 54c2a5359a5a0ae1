from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

from tests.evaluate.protocol_cases import Listed, block, gives, picture, rows_of, tells
from tokenrank.errors import InputError
from tokenrank.evaluate.datasets.sample import Sample
from tokenrank.evaluate.methods import Query
from tokenrank.evaluate.protocols import Saliency, Seed
from tokenrank.evaluate.protocols.observe import above_mean, nearest_pixels, observe_image, scores_of
from tokenrank.evaluate.protocols.saliency import seed_of
from tokenrank.models import Model, load
from tokenrank.tasks.refine import guided


@pytest.fixture(scope="module")
def model() -> Model:
    return load("bundled")


SAMPLE = Sample("a", picture(), mask=block())

# two parts: a large faint one on the object, and a small bright one beside it
TWO_PARTS = np.zeros((6, 8))
TWO_PARTS[1:4, 2:5] = 0.5
TWO_PARTS[5, 7] = 1.0


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grid = torch.from_numpy(values)[None, None]
    return F.interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def test_plain_figures_are_those_of_the_map_above_its_mean_at_the_pictures_resolution(model: Model):
    mask = SAMPLE.mask
    values = enlarged(TWO_PARTS, (48, 64))
    found = values > values.mean()
    (row,) = Saliency(size=64, posts=()).rows(model, SAMPLE, [gives("two", TWO_PARTS)])
    assert row["tp"] == (found & mask).sum()
    assert row["tn"] == (~found & ~mask).sum()
    assert row["iou"] == pytest.approx((found & mask).sum() / (found | mask).sum())
    assert row["accuracy"] == pytest.approx((found == mask).mean())
    p, r = (found & mask).sum() / found.sum(), (found & mask).sum() / mask.sum()
    assert row["f"] == pytest.approx(1.3 * p * r / (0.3 * p + r))
    assert not [name for name in row if "component" in name or "refined" in name]


def test_component_is_that_of_the_largest_value_and_its_box_is_what_corloc_compares(model: Model):
    (row,) = Saliency(size=64).rows(model, SAMPLE, [gives("two", TWO_PARTS)])
    assert row["iou_component"] == 0
    assert row["corloc"] == 0
    brighter = TWO_PARTS * np.where(TWO_PARTS == 1, 0.4, 1)
    (row,) = Saliency(size=64).rows(model, SAMPLE, [gives("two", brighter)])
    # patches of 8 pixels, and a mask made of whole ones
    assert row["iou_component"] == 1
    assert row["accuracy_component"] == 1
    assert row["f_component"] == 1
    assert row["corloc"] == 1


def test_diagonal_neighbours_are_apart(model: Model):
    values = np.zeros((6, 8))
    values[1:3, 2:4] = 1.0
    values[3, 4] = 0.9
    (row,) = Saliency(size=64).rows(model, Sample("a", picture(), mask=block()), [gives("x", values)])
    assert row["accuracy_component"] == pytest.approx(1 - (9 - 4) * 64 / (48 * 64))


def test_seed_chooses_the_component(model: Model):
    (row,) = Seed(size=64).rows(model, SAMPLE, [gives("two", TWO_PARTS)])
    assert row["iou_component"] == 1
    assert row["corloc"] == 1


def test_seed_that_is_no_foreground_is_a_component_of_its_own(model: Model):
    values = np.zeros((6, 8))
    values[0, 0] = 1
    (row,) = Seed(size=64).rows(model, SAMPLE, [gives("elsewhere", values)])
    assert row["iou_component"] == pytest.approx(1 / 9)


def test_refined_masks_follow_the_picture(model: Model):
    pixels = np.full((48, 64, 3), 30, dtype=np.uint8)
    mask = block(rows=slice(12, 29), columns=slice(19, 38))
    pixels[mask] = 220
    coarse = np.zeros((6, 8))
    coarse[1:4, 2:5] = 1
    sample = Sample("a", PIL.Image.fromarray(pixels), mask=mask)
    protocol = Saliency(size=64, radius=8, eps=1e-4, posts=("component", "refined", "solved"))
    (row,) = protocol.rows(model, sample, [gives("coarse", coarse)])
    assert row["iou_component"] < 0.6
    assert row["iou_component_refined"] > row["iou_component"] + 0.1
    soft = guided(sample.image, enlarged(coarse, (48, 64)), 8, 1e-4)
    found = soft > soft.mean()
    assert row["iou_refined"] == pytest.approx((found & mask).sum() / (found | mask).sum())
    assert 0 <= row["iou_solved"] <= 1
    assert len(row["f_curve_solved"]) == 255


def test_constant_map_finds_nothing_though_rounding_would(model: Model):
    values = np.full((6, 8), 1 / 48)
    values[::2] += 1e-17
    (row,) = Saliency(size=64, structure=True).rows(model, SAMPLE, [gives("constant", values)])
    assert row["tp"] == row["fp"] == 0
    assert row["iou"] == row["f"] == 0
    assert row["iou_component_refined"] == row["iou_component"] == 0
    assert above_mean(values).sum() == 0
    assert scores_of(values).max() == 0


def test_summary_is_means_and_the_two_maxima_of_f(model: Model):
    samples = [SAMPLE, Sample("b", picture(48, 64, 1), mask=block(64, 48, slice(40, 60), slice(4, 20)))]
    rows = rows_of(Saliency(size=64), model, samples, Saliency(size=64).methods("column_sum,random,centre_prior"))
    summary = Saliency(size=64).summary(rows)
    assert list(summary.index) == ["column_sum", "random", "centre_prior"]
    mine = rows[rows.method == "random"]
    assert summary.at["random", "iou"] == pytest.approx(mine.iou.mean())
    assert summary.at["random", "accuracy_refined"] == pytest.approx(mine.accuracy_refined.mean())
    curves = np.stack(mine.f_curve.to_list())
    assert summary.at["random", "max_f"] == pytest.approx(curves.mean(0).max())
    assert summary.at["random", "max_f_each"] == pytest.approx(curves.max(1).mean())
    squared = np.stack(mine.f_curve_squared.to_list())
    assert summary.at["random", "max_f_each_squared"] == pytest.approx(squared.max(1).mean())
    assert not np.allclose(curves, squared)


def test_structure_measures_come_when_asked_for(model: Model):
    values = enlarged(np.pad(np.ones((3, 3)), ((1, 2), (2, 3))), (48, 64))
    (row,) = Saliency(size=64, structure=True).rows(model, SAMPLE, [gives("x", TWO_PARTS > 0)])
    assert 0 < row["s_measure"] <= 1
    assert 0 < row["e_measure"] <= 1.001
    assert values.max() == 1
    (row,) = Saliency(size=64).rows(model, SAMPLE, [gives("x", TWO_PARTS > 0)])
    assert "s_measure" not in row


def test_native_size_is_rounded_to_patches_and_resized_by_lanczos(model: Model):
    image = picture(51, 37)
    seen = observe_image(model, image, native=True)
    assert seen.grid == (5, 6)  # 37 / 8 = 4.6 and 51 / 8 = 6.4
    expected = np.asarray(image.resize((48, 40), PIL.Image.Resampling.LANCZOS), dtype=np.float32) / 255
    settings = model.images
    assert settings is not None
    expected = (expected - np.float32(settings.mean)) / np.float32(settings.std)
    pixels = next(value for value in seen.inputs.values() if isinstance(value, torch.Tensor))
    assert np.allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert model.images == settings
    (row,) = Saliency(native=True).rows(model, Sample("a", image, mask=block(37, 51)), [gives("x", np.eye(5, 6))])
    assert 0 <= row["iou"] <= 1


def test_patches_at_pixels_are_nearest_neighbours():
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    for size in ((37, 51), (5, 7), (3, 4)):
        expected = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="nearest")[0, 0] > 0
        assert (nearest_pixels(mask, size) == expected.numpy()).all()


def test_all_methods_of_an_image_are_told_the_same(model: Model):
    heard: list[Query] = []
    torch.manual_seed(3)
    Seed(size=64).rows(model, SAMPLE, [tells("seed", heard), tells("nothing", heard)])
    first, second = heard
    assert first.random == second.random > 0
    assert second.seed is None
    assert first.seed is not None
    assert (first.seed.y * 6 - 0.5, first.seed.x * 8 - 0.5) == pytest.approx((2, 3))
    assert first.label is None


def test_seed_is_the_mostly_object_patch_nearest_to_the_centre_of_mass():
    generator = np.random.default_rng(0)
    for _ in range(40):
        height, width, rows, columns = generator.integers(4, 24, 4)
        mask = generator.random((height, width)) < generator.uniform(0.05, 0.9)
        if not mask.any():
            continue
        # exact shares: every pixel cut in rows × columns equal ones
        fine = np.kron(mask, np.ones((rows, columns)))
        share = fine.reshape(rows, height, columns, width).mean((1, 3))
        ys, xs = np.nonzero(mask)
        y, x = (ys.mean() + 0.5) / height * rows, (xs.mean() + 0.5) / width * columns
        best = min(
            (round((i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2, 9), i, j)
            for i in range(rows)
            for j in range(columns)
            if share[i, j] >= min(0.5, share.max()) - 1e-12
        )
        i, j = seed_of(mask, int(rows), int(columns))
        assert round((i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2, 9) == best[0]
        assert share[i, j] >= min(0.5, share.max()) - 1e-9


def test_what_cannot_be_used_is_refused(model: Model):
    with pytest.raises(InputError, match=r"size = 64 beside native=True"):
        Saliency(native=True, size=64)
    with pytest.raises(InputError, match="no post-processing 'crf'"):
        Saliency(posts=("crf",))
    with pytest.raises(InputError, match="'raw_row' asks for a seed, and protocol 'saliency' gives none"):
        Saliency().methods("raw_row")
    with pytest.raises(InputError, match="has no mask, which protocol 'saliency' needs"):
        Saliency().check(Listed(Sample("a", picture())))
    Saliency().check(Listed(SAMPLE))
    with pytest.raises(InputError, match="1 of 48 values that are NaN"):
        Saliency(size=64).rows(model, SAMPLE, [gives("nan", [float("nan"), *range(47)])])
    with pytest.raises(InputError, match=r"values are \(3,\), expected a tensor of shape \(48,\)"):
        Saliency(size=64).rows(model, SAMPLE, [gives("short", [1.0, 2, 3])])
    with pytest.raises(InputError, match="mask is empty"):
        Seed(size=64).rows(model, Sample("a", picture(), mask=np.zeros((48, 64), bool)), [gives("x", TWO_PARTS)])
