"""DiffSeg against a plain port of the published procedure: the same labels, on photographs."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr
from tests.tasks import plain_diffseg
from tokenrank.layout import TokenLayout
from tokenrank.models import read_image
from tokenrank.tasks.anchors import AnchorGrid, anchors_of
from tokenrank.tasks.cluster import cluster, joined_chain
from tokenrank.tasks.masks import grid_of
from tokenrank.tasks.strength import unjudged

LAYERS = (6, 9)
TAU = 0.1
VIEWS = {"whole": 192, "mirrored": 128, "upper left": 160, "lower right": 128, "middle": 144}  # long side
PICTURES = [(name, view) for name in tr.samples.names() for view in VIEWS]


def seen(name: str, view: str) -> PIL.Image.Image:
    """A photograph of the package, or a part of it."""
    picture = read_image(tr.samples.path(name))
    width, height = picture.size
    if view == "whole":
        return picture
    if view == "mirrored":
        return picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    x, y = {"upper left": (0.0, 0.0), "lower right": (0.4, 0.3), "middle": (0.2, 0.25)}[view]
    return picture.crop((round(x * width), round(y * height), round((x + 0.6) * width), round((y + 0.7) * height)))


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load("bundled")


def attention(model: tr.Model, picture: PIL.Image.Image, size: int) -> dict[str, tuple[torch.Tensor, tuple[int, int]]]:
    """Name → (weights (heads, P, P) in float32, grid) of two layers.

    One picture at three resolutions gives layers of three grids, as a UNet has.
    """
    found = {}
    for divisor in (1, 2, 4):
        observation = tr.observe(picture, model, size=size // divisor)
        for layer in LAYERS:
            chain = observation.head_chains(layer)
            found[f"at 1/{divisor}.{layer}"] = chain.to_dense().float(), observation.grid
    return found


def observed(layers: dict[str, tuple[torch.Tensor, tuple[int, int]]], picture: PIL.Image.Image) -> tr.Observation:
    trace = tr.from_attentions({name: weights for name, (weights, _) in layers.items()})
    layouts = {name: TokenLayout.image(*grid, cls_tokens=0) for name, (_, grid) in layers.items()}
    return unjudged(tr.observe(trace, image=picture, layout=layouts))


def test_there_are_twenty_pictures():
    assert len(PICTURES) == 20


@pytest.mark.parametrize(("name", "view"), PICTURES)
def test_labels_are_those_of_the_plain_port(model: tr.Model, name: str, view: str):
    picture = seen(name, view)
    layers = attention(model, picture, VIEWS[view])
    source = observed(layers, picture)
    found = cluster(source, layer="*", heads="uniform", tau=TAU)
    expected = plain_diffseg.segmented(
        [(weights.double(), grid) for weights, grid in layers.values()], (picture.height, picture.width), TAU
    )
    assert len(np.unique(found.labels)) > 2
    assert (found.labels == expected.numpy()).all()
    aggregated, grid = plain_diffseg.aggregated([(weights.double(), grid) for weights, grid in layers.values()])
    chain = joined_chain(source, source.layers, "uniform")
    assert chain.layout is not None
    assert chain.layout.grids["image"] == grid
    assert (chain.to_dense().double() - aggregated).abs().max() < 1e-6


@pytest.mark.parametrize(
    "grid", ["tokenrank-top", "tokenrank-nms", "tokenrank-sample", "tokenrank-cells", "metastable"]
)
def test_other_anchors_are_merged_as_the_plain_port_does(model: tr.Model, grid: AnchorGrid):
    picture = seen("coffee", "whole")
    layers = attention(model, picture, 128)
    source = observed(layers, picture)
    found = cluster(source, layer="*", heads="uniform", tau=TAU, grid=grid, anchors=8)
    chain = joined_chain(source, source.layers, "uniform")
    assert chain.layout is not None
    shape = chain.layout.grids["image"]
    chosen = anchors_of(chain, (shape[0], shape[1]), 8, grid).tolist()
    assert chosen != plain_diffseg.evenly_spaced((shape[0], shape[1]), 8)
    maps = plain_diffseg.merged(chain.to_dense().double(), chosen, TAU)
    expected = plain_diffseg.labels_of(maps, (shape[0], shape[1]), (picture.height, picture.width))
    assert (found.labels == expected.numpy()).all()


def test_half_precision_of_the_published_first_iteration_moves_few_pixels(model: tr.Model):
    """The quirk is not followed; here is what that changes."""
    changed = []
    for name in tr.samples.names():
        picture = seen(name, "whole")
        layers = list(attention(model, picture, 128).values())
        size = picture.height // 2, picture.width // 2
        exact, half = (plain_diffseg.segmented(layers, size, TAU, half=half).numpy() for half in (False, True))
        pairs = np.stack([exact.ravel(), half.ravel()])
        kept = sum(np.unique(half[exact == label], return_counts=True)[1].max() for label in np.unique(exact))
        changed.append(1 - kept / pairs.shape[1])
    assert max(changed) < 0.05


def test_a_unet_with_several_grids_is_clustered_as_the_plain_port_does():
    diffusers = pytest.importorskip("diffusers")
    from tests.conformance.diffusers_models import SD15, text

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**SD15).eval()
    for name, weight in unet.named_parameters():
        if name.endswith("attn1.to_q.weight"):  # as drawn it attends almost evenly
            weight.data *= 20
    latents = torch.randn(1, 4, 12, 20)
    with torch.no_grad(), tr.capture(unet) as trace:
        unet(latents, torch.tensor(300), encoder_hidden_states=text()[:1])
    picture = PIL.Image.new("RGB", (160, 96))
    source = tr.observe(trace, image=picture)
    chains = [source.head_chains(name) for name in source.layers]
    layers = [(chain.to_dense().double(), grid_of(chain)) for chain in chains]
    assert {grid for _, grid in layers} == {(12, 20), (6, 10)}
    expected = plain_diffseg.aggregated(layers)[0]
    chain = joined_chain(source, source.layers, "uniform")
    assert (chain.to_dense().double() - expected).abs().max() < 1e-6
    tau = float(np.quantile(plain_diffseg.distances(expected[0], expected[0].log(), expected, expected.log()), 0.02))
    found = cluster(source, layer="*", heads="uniform", tau=tau)
    assert found.size == (96, 160)
    assert len(found.names) > 2
    assert (found.labels == plain_diffseg.segmented(layers, (96, 160), tau).numpy()).all()
