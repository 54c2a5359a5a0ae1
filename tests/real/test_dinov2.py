"""DINOv2-small on the photographs of the package, as people run it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tokenrank as tr
from tests.real import oracles
from tokenrank.models import Model

pytestmark = pytest.mark.real

BOXES = {
    "astronaut": (0.05, 0.02, 0.99, 1.00),
    "chelsea": (0.07, 0.00, 0.88, 1.00),
    "coffee": (0.12, 0.04, 0.80, 0.98),
    "rocket": (0.46, 0.28, 0.55, 1.00),
}
"""Where it is, by eye: x0, y0, x1, y1 in shares of the sides (woman and helmet, head, cup and saucer, rocket)."""


STARTS = {
    "astronaut": tr.at(0.40, 0.62),
    "chelsea": tr.at(0.50, 0.45),
    "coffee": tr.at(0.48, 0.36),
    "rocket": tr.at(0.505, 0.60),
}
"""The suit, between the eyes, the coffee, the rocket's middle."""


def inside(name: str, mask: np.ndarray) -> tuple[float, float]:
    """Share of the mask in the box, and IoU of the two."""
    height, width = mask.shape
    x0, y0, x1, y1 = BOXES[name]
    box = np.zeros_like(mask)
    box[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    both = (mask & box).sum()
    return float(both / max(mask.sum(), 1)), float(both / (mask | box).sum())


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
def test_every_head_of_every_layer_is_lapacks(dinov2: Model, name: str) -> None:
    observation = tr.observe(tr.samples.path(name), dinov2, size=224)
    assert len(observation.layers) == 12
    assert sum(oracles.check_heads(observation.head_chains(layer)) for layer in observation.layers) == 72


def test_with_cls_too(dinov2: Model) -> None:
    observation = tr.observe(tr.samples.path("coffee"), dinov2, size=224)
    chain = observation.head_chains(9, tokens="all")
    assert chain.num_tokens == len(observation.patches) + 1
    assert oracles.check_heads(chain) == 6


def test_at_the_size_that_it_was_trained_at(dinov2: Model) -> None:
    observation = tr.observe(tr.samples.path("astronaut"), dinov2, size=518)
    assert observation.grid == (37, 37)
    for heads in ("uniform", "lambda2"):
        chain = observation.chain(9, heads)
        answer = chain.tokenrank(0.99)
        exact = oracles.tokenrank(oracles.dense(chain), 0.99)
        off = np.abs(answer.values.double().numpy() - exact).sum()
        bound = answer.certificate.error_bound
        assert bound is not None
        assert off <= float(bound) + 1e-12
        assert float(bound) < 1e-3


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("astronaut", 224, (16, 16)),
        ("coffee", 224, (11, 16)),  # 480 × 320 pixels: 149.3 / 14 = 10.7
        ("chelsea", 224, (11, 16)),  # 451 × 300: 149.0 / 14 = 10.6
        ("astronaut", 518, (37, 37)),
        ("rocket", 518, (25, 37)),  # 345.3 / 14 = 24.7
    ],
)
def test_each_token_is_the_patch_that_the_layout_says(
    dinov2: Model, name: str, size: int, grid: tuple[int, int]
) -> None:
    inputs = dinov2.prepare(tr.samples.path(name), size)
    rows, columns = grid
    assert tuple(inputs["pixel_values"].shape[-2:]) == (14 * rows, 14 * columns)
    observation = tr.observe(dinov2, inputs=inputs)
    assert observation.grid == grid
    assert observation.patches == range(1, 1 + rows * columns)
    row, column = rows - 2, columns // 3
    other = inputs["pixel_values"].clone()
    other[..., 14 * row : 14 * (row + 1), 14 * column : 14 * (column + 1)] += 1
    changed = tr.observe(dinov2, inputs={**inputs, "pixel_values": other})
    # in the first layer a token has seen nothing but its own patch
    off = (changed.features(0, "k") - observation.features(0, "k")).abs().amax(-1)
    assert off.argmax() == row * columns + column
    assert int((off > 1e-3 * off.max()).sum()) == 1


@pytest.mark.parametrize(
    ("name", "least", "iou"),
    [("astronaut", 0.9, 0.2), ("chelsea", 0.9, 0.5), ("coffee", 0.9, 0.15), ("rocket", 0.2, 0.1)],
)
def test_segment_cuts_out_the_object(dinov2: Model, name: str, least: float, iou: float) -> None:
    """Parts of the object at least; the rocket is narrower than a patch, and its box a fifteenth of the picture."""
    found = tr.tasks.segment(tr.samples.path(name), STARTS[name], n=1, layer=-1, model=dinov2, size=224)
    share, overlap = inside(name, found.labels == 1)
    assert share > least
    assert overlap > iou
    assert found.strengths is not None
    assert found.strengths[0] > 0.1


@pytest.mark.parametrize(("name", "iou"), [("astronaut", 0.08), ("chelsea", 0.3), ("coffee", 0.3)])
def test_saliency_finds_the_object(dinov2: Model, name: str, iou: float) -> None:
    """Of the astronaut a part; not the rocket, beside which lamps stand out more."""
    found = tr.tasks.saliency(tr.samples.path(name), model=dinov2, size=224)
    share, overlap = inside(name, found.labels == 1)
    assert share > 0.75
    assert overlap > iou
    assert found.strengths is not None
    assert found.strengths[0] > 0.1


def test_one_colour_holds_nothing(dinov2: Model) -> None:
    import PIL.Image

    with pytest.warns(tr.errors.NothingThereWarning):
        found = tr.tasks.saliency(PIL.Image.new("RGB", (224, 224), "grey"), model=dinov2, size=224)
    assert found.strengths is not None
    assert abs(found.strengths[0]) < 0.1


def test_what_is_read_is_what_the_network_does(dinov2: Model) -> None:
    """Weights of every head, put together again from queries and keys, against the network's own eager weights."""
    eager = tr.load(dinov2.name, attention="eager")
    inputs = dinov2.prepare(tr.samples.path("coffee"), 224)
    with torch.no_grad():
        own = eager.module(**inputs, output_attentions=True).attentions
    observation = tr.observe(dinov2, inputs=inputs)
    for layer, weights in enumerate(own):
        rows = observation.head_chains(layer, tokens="all").operator.to_dense(torch.float64)
        assert float((rows - weights[0].double()).abs().max()) < 1e-4, layer  # fused attention rounds otherwise
