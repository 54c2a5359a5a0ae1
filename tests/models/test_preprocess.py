"""Sizes and numbers of prepared pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokenrank.errors import InputError
from tokenrank.models.preprocess import MAX_PATCHES, ImageSettings, fit_size, settings_from_processor

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def settings(**extra: Any) -> ImageSettings:
    options: dict[str, Any] = {"size": 64, "patch": (8, 8), "mean": (0.5,) * 3, "std": (0.25,) * 3, "native": (64, 64)}
    return ImageSettings(**{**options, **extra})


def from_processor(processor: dict[str, Any], **extra: Any) -> ImageSettings:
    options: dict[str, Any] = {"patch": (16, 16), "native": (224, 224), "fixed": False}
    return settings_from_processor({**HALF, **processor}, **{**options, **extra})


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(32, 900), st.sampled_from([(8, 8), (14, 14), (16, 32)]))
def test_fitted_sizes(width: int, height: int, size: int, patch: tuple[int, int]) -> None:
    rows, columns = fit_size(width, height, size, patch)
    assert rows >= patch[0]
    assert columns >= patch[1]
    assert (rows % patch[0], columns % patch[1]) == (0, 0)
    scale = size / max(width, height)
    assert abs(rows - height * scale) <= max(patch[0] / 2, patch[0] - height * scale) + 1e-6
    assert abs(columns - width * scale) <= max(patch[1] / 2, patch[1] - width * scale) + 1e-6


@pytest.mark.parametrize(
    ("picture", "expected"),
    [((480, 320), (152, 224)), ((320, 480), (224, 152)), ((1, 1), (224, 224)), ((20_000, 20), (8, 224))],
)
def test_aspect_ratio_and_extremes(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_size(*picture, 224, (8, 8)) == expected


def test_too_many_patches() -> None:
    assert fit_size(10, 10, 1024, (8, 8)) == (1024, 1024)  # exactly the limit
    with pytest.raises(InputError, match=r"130 × 130 = 16,900 patches, and 16,384 is the most; pass size=1023") as e:
        fit_size(10, 10, 1040, (8, 8))
    assert "10 × 10 picture" in str(e.value)
    rows, columns = fit_size(10, 10, 1023, (8, 8))
    assert rows * columns // 64 <= MAX_PATCHES
    with pytest.raises(InputError, match="size = 0"):
        fit_size(10, 10, 0, (8, 8))


def test_a_size_below_a_patch_names_the_patch_and_the_cure() -> None:
    assert fit_size(10, 10, 14, (14, 8)) == (14, 16)
    for size in (3, 13):
        with pytest.raises(
            InputError, match=f"size = {size} is less than one patch of 14 × 8 pixels; expected 14 or more, such as 224"
        ):
            fit_size(10, 10, size, (14, 8))


def test_pixels_are_those_of_transformers() -> None:
    """Same numbers as transformers' own image processor on Pillow, for a picture of the same target."""
    import transformers

    kind = getattr(transformers, "ViTImageProcessorPil", None) or transformers.ViTImageProcessor
    processor = kind(size={"height": 64, "width": 96}, resample=2, **HALF)
    rng = np.random.default_rng(0)
    picture = PIL.Image.fromarray(rng.integers(0, 256, (100, 150, 3), dtype=np.uint8))
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    ours = from_processor({"size": 96, "resample": 2}, patch=(8, 8)).pixels(picture)
    assert ours.dtype == torch.float32
    assert ours.shape == (1, 3, 64, 96)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_channels() -> None:
    picture = PIL.Image.new("RGB", (8, 8), (255, 0, 51))
    torch.testing.assert_close(settings().pixels(picture)[0, :, 0, 0], torch.tensor([2.0, -2.0, -1.2]))
    flipped = settings(flip_channels=True).pixels(picture)[0, :, 0, 0]
    torch.testing.assert_close(flipped, torch.tensor([-1.2, -2.0, 2.0]))
    grey = settings(mean=(0.0,), std=(1.0,)).pixels(picture)
    assert grey.shape == (1, 1, 64, 64)
    torch.testing.assert_close(grey[0, 0, 0, 0], torch.tensor(82 / 255))


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        ({"size": 160}, 160),
        ({"size": {"height": 128, "width": 192}}, 192),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 224),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False}, 256),
        ({"size": {"longest_edge": 320}}, 320),
        ({"size": [96, 64]}, 96),
        ({}, 224),
    ],
)
def test_default_size(processor: dict[str, Any], size: int) -> None:
    assert from_processor(processor).size == size


def test_scale_and_normalisation() -> None:
    assert from_processor({}).scale == pytest.approx(1 / 255)
    assert from_processor({"rescale_factor": 1 / 127.5}).scale == pytest.approx(1 / 127.5)
    assert from_processor({"do_rescale": False}).scale == 1
    assert from_processor({"do_normalize": False}).mean == (0.0, 0.0, 0.0)
    assert from_processor({"image_mean": 0.4}).mean == (0.4, 0.4, 0.4)
    with pytest.raises(InputError, match="image_mean = None; expected 3 numbers"):
        from_processor({"image_mean": None})
    with pytest.raises(InputError, match="expected 1 numbers"):
        from_processor({}, channels=1)
    with pytest.raises(InputError, match="has a size"):
        from_processor({}, native=None)


def test_fixed_positions() -> None:
    fixed = settings(fixed=True)
    picture = PIL.Image.new("RGB", (50, 10))
    assert fixed.target(picture) == (64, 64)
    assert fixed.target(picture, 64) == (64, 64)
    with pytest.raises(InputError, match="size = 96; this model's positions are fixed, it reads 64 × 64 only"):
        fixed.target(picture, 96)
    with pytest.raises(InputError, match="fixed"):
        fixed.resized(96)
    assert settings().resized(96).target(picture) == (16, 96)
