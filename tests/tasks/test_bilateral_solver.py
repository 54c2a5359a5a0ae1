"""The bilateral solver against a dense solution of its problem, and on edges."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tokenrank.errors import InputError
from tokenrank.tasks.refine import bilateral_grid, bilateral_solver


def noisy(height: int = 12, width: int = 14) -> np.ndarray:
    return np.random.default_rng(0).integers(90, 150, (height, width, 3), dtype=np.uint8)


def dense_blur(pixels: np.ndarray, spatial: float, luma: float, chroma: float) -> tuple[list[int], np.ndarray]:
    places = [
        tuple(
            int(v // s)
            for v, s in zip((c, r, *pixels[r, c].astype(float)), (spatial, spatial, luma, chroma, chroma), strict=True)
        )
        for r in range(pixels.shape[0])
        for c in range(pixels.shape[1])
    ]
    occupied = sorted(set(places))
    blur = np.array(
        [
            [{0: 10, 1: 1}.get(sum(abs(a - b) for a, b in zip(p, q, strict=True)), 0) for q in occupied]
            for p in occupied
        ],
        float,
    )
    return [occupied.index(p) for p in places], blur


def test_neighbours_in_the_grid_against_loops():
    pixels = np.asarray(Image.fromarray(noisy()).convert("YCbCr"))
    cell, blur = bilateral_grid(pixels, 4, 16, 8)
    expected_cell, expected = dense_blur(pixels, 4, 16, 8)
    order = np.empty(len(expected), int)
    order[expected_cell] = cell  # the two number the cells differently
    assert len(set(order)) == len(expected) == blur.shape[0]
    assert np.array_equal(blur.toarray()[np.ix_(order, order)], expected)


def test_the_answer_minimises_its_energy():
    image = noisy()
    target = np.random.default_rng(1).random(image.shape[:2])
    settings = {"spatial": 4.0, "luma": 16.0, "chroma": 8.0, "smoothness": 30.0, "confidence": 0.9}
    found = bilateral_solver(image, target, **settings, iterations=500, tol=1e-12)
    cell, blur = dense_blur(np.asarray(Image.fromarray(image).convert("YCbCr")), 4, 16, 8)
    count = np.bincount(cell).astype(float)
    scale = np.ones_like(count)
    for _ in range(10):
        scale = np.sqrt(scale * count / (blur @ scale))
    smooth = np.diag(scale * (blur @ scale)) - scale[:, None] * blur * scale
    system = 30 * smooth + 0.9 * np.diag(count)
    expected = np.linalg.solve(system, 0.9 * np.bincount(cell, target.ravel()))
    assert found.ravel() == pytest.approx(expected[cell], abs=1e-8)


def test_a_constant_stays_and_the_mean_is_kept():
    image = noisy()
    assert bilateral_solver(image, np.full((12, 14), 0.3)) == pytest.approx(np.full((12, 14), 0.3))
    target = np.random.default_rng(1).random((12, 14))
    found = bilateral_solver(image, target, iterations=500, tol=1e-12)
    # every row of the smoothness sums to zero, so that only the data moves the mean
    assert found.mean() == pytest.approx(target.mean())
    assert found.std() < target.std()


def test_a_mask_grows_to_the_edge_of_its_picture():
    image = np.full((64, 96, 3), 60, np.uint8)
    image[16:48, 20:60] = (200, 120, 60)
    mask = np.zeros((64, 96), bool)
    mask[16:48, 32:64] = True
    found = bilateral_solver(image, mask, iterations=200) > 0.5
    truth = image[..., 0] == 200

    def iou(a: np.ndarray) -> float:
        return float((a & truth).sum() / (a | truth).sum())

    assert iou(mask) < 0.7
    assert iou(found) > 0.95


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((3, 3)), {}, "upsample"),
        (np.full((12, 14), np.nan), {}, "finite"),
        (np.zeros((12, 14)), {"luma": 0}, "positive"),
        (np.zeros((12, 14)), {"confidence": 1.5}, "at most 1"),
    ],
)
def test_wrong_arguments_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        bilateral_solver(noisy(), values, **options)
