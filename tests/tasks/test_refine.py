"""Edges found again, constants kept, bounds kept; the guided filter against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from tokenrank.errors import InputError
from tokenrank.tasks.refine import guided, random_walk

EDGE = 37


def stepped(height: int = 48, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A picture with an edge at column 37, and a map that rises over 16 pixels around column 32."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[:, EDGE:] = (200, 120, 60)
    ramp = np.clip((np.arange(width) - 24 + 0.5) / 16, 0, 1)
    return image, np.tile(ramp, (height, 1))


@pytest.mark.parametrize("subsample", [1, 2, 4, None])
def test_a_map_snaps_to_the_edge_of_its_picture(subsample):
    image, values = stepped()
    assert (values[24] > 0.5).argmax() == 32
    found = guided(image, values, radius=16, subsample=subsample)
    assert (found[24] > 0.5).argmax() == EDGE
    assert found[24, EDGE] - found[24, EDGE - 1] > 0.3
    assert values[24, EDGE] - values[24, EDGE - 1] < 0.1


def test_the_exact_filter_by_its_formula():
    generator = np.random.default_rng(0)
    image, values = generator.integers(0, 256, (9, 10, 3), dtype=np.uint8), generator.random((9, 10))
    radius, eps = 2, 0.01
    guide = np.pad(image / 255, ((radius,) * 2, (radius,) * 2, (0, 0)), mode="edge")
    padded = np.pad(values, radius, mode="edge")
    slopes, offsets = np.empty((9, 10, 3)), np.empty((9, 10))
    for r in range(9):
        for c in range(10):
            colours = guide[r : r + 5, c : c + 5].reshape(-1, 3)
            inside = padded[r : r + 5, c : c + 5].ravel()
            spread = (colours.T @ colours) / 25 - np.outer(colours.mean(0), colours.mean(0))
            together = colours.T @ inside / 25 - colours.mean(0) * inside.mean()
            slopes[r, c] = np.linalg.solve(spread + eps * np.eye(3), together)
            offsets[r, c] = inside.mean() - slopes[r, c] @ colours.mean(0)
    slopes, offsets = np.pad(slopes, ((2, 2), (2, 2), (0, 0)), mode="edge"), np.pad(offsets, 2, mode="edge")
    expected = np.empty((9, 10))
    for r in range(9):
        for c in range(10):
            slope, offset = slopes[r : r + 5, c : c + 5].mean((0, 1)), offsets[r : r + 5, c : c + 5].mean()
            expected[r, c] = slope @ (image[r, c] / 255) + offset
    expected = np.clip(expected, values.min(), values.max())
    assert guided(image, values, radius, eps, subsample=1) == pytest.approx(expected, abs=1e-4)


def test_a_constant_map_stays_what_it_is():
    image, values = stepped()
    assert (guided(image, np.full_like(values, 0.3)) == 0.3).all()
    assert (random_walk(image, np.full_like(values, 0.3)) == 0.5).all()


def test_a_picture_of_one_colour_only_blurs():
    _, values = stepped()
    found = guided(np.full((*values.shape, 3), 90, np.uint8), values, radius=8, subsample=1)
    # two box means of a ramp are symmetric about its middle
    assert found[24, 31] + found[24, 32] == pytest.approx(1, abs=1e-3)
    assert (np.diff(found[24]) > -1e-6).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-5, 3), (1e6, 1e6 + 50)])
def test_range_and_type_are_kept(dtype, low, high):
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    values = (low + (high - low) * (generator.random((30, 41)) > 0.5)).astype(dtype)
    found = guided(image, values, radius=5)
    assert found.dtype == dtype
    assert values.min() <= found.min() < found.max() <= values.max()


def test_what_the_linear_function_overshoots_is_clipped():
    # the map follows brightness, and one line is brighter than anything that the map knows
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:], image[:, 30] = 128, 255
    values = np.tile((np.arange(40) >= 20).astype(float), (40, 1))
    found = guided(image, values, radius=16, eps=1e-2, subsample=1)
    assert (found[5:35, 30] == 1).all()
    assert found[20, 24] < 1
    assert found.min() >= 0


def test_a_shifted_and_scaled_map_gives_the_result_shifted_and_scaled():
    image, values = stepped()
    assert guided(image, 7 - 3 * values) == pytest.approx(7 - 3 * guided(image, values), abs=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 2), (17, 5)])
def test_pictures_smaller_than_the_window(size):
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = guided(image, np.arange(size[0] * size[1], dtype=float).reshape(size), radius=16)
    assert found.shape == size
    assert np.isfinite(found).all()


def test_a_walk_stops_at_the_edge():
    image, values = stepped()
    found = random_walk(image, values, foreground=0.3, background=0.2)
    assert ((found > 0.5) == (np.arange(80) >= EDGE)).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_walk_on_one_colour_is_the_gambler():
    # between absorbing ends the probability of ending on one of them is linear
    values = np.zeros((5, 11))
    values[:, 1:10], values[:, 10] = 0.5, 1
    found = random_walk(np.full((5, 11, 3), 9, np.uint8), values, foreground=1 / 11, background=1 / 11)
    assert found == pytest.approx(np.tile(np.arange(11) / 10, (5, 1)), abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_mask_is_certain_on_both_sides(share):
    image, _ = stepped()
    mask = np.arange(48 * 80).reshape(48, 80) < share * 48 * 80
    assert np.array_equal(random_walk(image, mask), mask)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, v: guided(i, v[:5]), "upsample"),
        (lambda i, v: guided(i, np.where(v > 0.5, np.nan, v)), "NaN"),
        (lambda i, v: guided(i, v, radius=0), "radius of 1"),
        (lambda i, v: guided(i, v, eps=0), "eps > 0"),
        (lambda i, v: guided(i, v, radius=4, subsample=5), "1 to the radius"),
        (lambda i, v: random_walk(i, v, foreground=0), "shares > 0"),
        (lambda i, v: random_walk(i, v, foreground=0.6, background=0.6), "sum to 1"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(*stepped())
