"""The picture of a page is the one that the model saw: its crop, in the proportions of its patches, not too large."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tests.tiny import save_vit
from tests.trace.models import peaky
from tokenrank.explorer import crop
from tokenrank.explorer.index import build

hf = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def clip():
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    return peaky(hf.CLIPVisionModel(hf.CLIPVisionConfig(**sizes, image_size=224, patch_size=32)))


@pytest.fixture(scope="module")
def wide() -> PIL.Image.Image:
    return PIL.Image.open(tr.samples.path("chelsea")).convert("RGB")


def prepared(picture: PIL.Image.Image, resized: tuple[int, int], mean: float = 0.5, std: float = 0.25) -> torch.Tensor:
    """As processors do: the short side resized, then the middle 224 × 224, normalised."""
    small = picture.resize(resized, PIL.Image.Resampling.BICUBIC)
    left, top = (resized[0] - 224) // 2, (resized[1] - 224) // 2
    values = np.asarray(small.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return torch.from_numpy(((values - mean) / std).transpose(2, 0, 1).copy())[None]


def shown(seen: crop.Seen | None) -> PIL.Image.Image:
    assert seen is not None
    picture = PIL.Image.open(io.BytesIO(seen.jpeg))
    assert picture.size == (seen.width, seen.height)
    assert picture.format == "JPEG"
    assert len(seen.jpeg) <= crop.MOST_BYTES
    assert not picture.getexif()
    return picture


def difference(a: PIL.Image.Image, b: PIL.Image.Image) -> float:
    """Mean difference of two pictures, of 255, at 64 × 64."""
    one, other = (np.asarray(p.convert("RGB").resize((64, 64), PIL.Image.Resampling.BOX), float) for p in (a, b))
    return float(np.abs(one - other).mean())


@pytest.mark.parametrize(
    ("resized", "box", "words"),
    [
        ((337, 224), (75, 0, 376, 300), "the middle of 451 × 300 pixels"),
        ((385, 256), (94, 19, 357, 281), "the middle 88% of 451 × 300 pixels"),
        ((224, 224), (0, 0, 451, 300), "the whole of 451 × 300 pixels, resized to 224 × 224, 50% taller"),
    ],
)
def test_the_crop_of_a_processor_is_found(clip, wide, resized, box, words):
    observation = tr.observe(clip, inputs={"pixel_values": prepared(wide, resized)}, image=wide)
    seen = crop.seen_picture(observation, (7, 7))
    picture = shown(seen)
    assert seen is not None
    assert seen.note.startswith(words)
    assert picture.width == picture.height
    assert difference(picture, wide.crop(box)) < 3


def test_a_picture_that_was_not_given_is_that_of_the_pixels(clip, wide):
    pixels = prepared(wide, (337, 224))
    seen = crop.seen_picture(tr.observe(clip, inputs={"pixel_values": pixels}), (7, 7))
    picture = shown(seen)
    assert seen is not None
    assert seen.note == "what the model was given, 224 × 224 pixels"
    assert difference(picture, wide.crop((75, 0, 376, 300))) < 3


def test_another_picture_than_was_seen_is_not_shown(clip, wide):
    other = PIL.Image.open(tr.samples.path("rocket"))
    observation = tr.observe(clip, inputs={"pixel_values": prepared(wide, (337, 224))}, image=other)
    seen = crop.seen_picture(observation, (7, 7))
    assert seen is not None
    assert seen.note.startswith("what the model was given")
    assert difference(shown(seen), wide.crop((75, 0, 376, 300))) < 3


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (480, 48), (7, 9), (1, 1), (2000, 1500)])
def test_models_of_load_show_the_whole_picture_in_the_proportions_of_the_grid(tmp_path, size):
    picture = PIL.Image.open(tr.samples.path("coffee")).convert("RGB").resize(size)
    observation = tr.observe(picture, model=str(save_vit(tmp_path / "vit")))
    rows, columns = observation.grid
    seen = crop.seen_picture(observation, observation.grid)
    assert seen is not None
    assert abs(seen.width * rows - seen.height * columns) <= max(rows, columns)  # half a pixel
    assert f"the whole picture, {size[0]} × {size[1]} pixels" in seen.note
    assert max(seen.width, seen.height) >= min(448, *[max(size)])
    assert max(seen.width, seen.height) <= crop.MOST_SIDE
    shown(seen)


def test_noise_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)
    chain = tr.AttentionChain(np.eye(4)[None] * 0.9 + 0.025, tr.TokenLayout.image(2, 2, cls_tokens=0))
    observation = tr.observe(chain, image=PIL.Image.fromarray(noise))
    seen = crop.seen_picture(observation, (2, 2))
    assert max(shown(seen).size) >= 448
    assert seen is not None
    assert seen.note.endswith(", if nothing was cut off, which is not known here")  # "The model saw" stands before it


def test_what_a_trace_shows_has_the_proportions_of_its_grid(wide):
    layout = tr.TokenLayout.image(2, 3, cls_tokens=0)
    chain = tr.AttentionChain(np.full((1, 6, 6), 1 / 6), layout)
    seen = crop.seen_picture(tr.observe(chain, image=wide), (2, 3))
    assert seen is not None
    assert (seen.width, seen.height) == (451, 301)
    assert build(tr.observe(chain))[0]["sheets"][0]["picture"] is None


def test_a_grey_input_and_stretched_colours(wide):
    chain = tr.AttentionChain(np.full((1, 4, 4), 1 / 4), tr.TokenLayout.image(2, 2, cls_tokens=0))
    assert crop.seen_picture(tr.observe(chain), (2, 2)) is None
    strange = 40 * torch.randn(224, 224, 3, generator=torch.Generator().manual_seed(0)).numpy()
    assert crop._of_pixels(strange).note.endswith("colours stretched to what they hold")
