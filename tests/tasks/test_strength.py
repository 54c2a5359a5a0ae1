"""Strength: how much what was found stands out, and what is said where nothing does."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tokenrank as tr
from tests.own_modules import OWN, PICTURE
from tokenrank.errors import InputError, NothingThereWarning
from tokenrank.evaluate.protocols.observe import observe_image
from tokenrank.tasks import Segmentation, strengths
from tokenrank.tasks.strength import FAINT, contrasts, flat_twin, strength_words, total_strength

GREY = np.full((64, 80, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load("bundled")


@pytest.fixture(scope="module")
def seen(model: tr.Model) -> tr.Observation:
    return tr.observe(tr.samples.path("coffee"), model, size=64)


def disc(size: tuple[int, int] = (64, 64), radius: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
    return (y - 0.5) ** 2 + (x - 0.5) ** 2 < radius**2


# ---- the number


def apart(observation: tr.Observation, inside: Tensor) -> float:
    """By the definition, with matrices: float64, every head of every layer evenly."""
    total = 0
    for name in observation.layers:
        span = observation.patches
        weights = observation.head_chains(name, "all").to_dense().double()[:, span.start : span.stop][..., span.start :]
        total = total + (weights / weights.sum(-1, keepdim=True)).mean(0) / len(observation.layers)
    rows = torch.stack([side @ total / side.sum() for side in (inside, 1 - inside)])
    return float((rows[0] - rows[1]).abs().sum() / 2)


def test_it_is_the_distance_of_one_bounce_from_inside_and_outside(seen: tr.Observation) -> None:
    part = torch.zeros(seen.grid)
    part[2:5, 1:4] = 1
    flat = flat_twin(seen)
    assert flat is not None
    expected = [apart(one, part.flatten().double()) for one in (seen, flat)]
    (found,) = strengths(seen, part[None] > 0)  # type: ignore[misc]
    assert found == pytest.approx(expected[0] - expected[1], abs=1e-6)
    assert contrasts(seen, part[None].double()).tolist() == pytest.approx(expected[:1], abs=1e-6)
    pixels = part.repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert strengths(seen, pixels[None] > 0) == pytest.approx((found,), abs=1e-6)


class ByColour(nn.Module):
    """Patches attend to each other by colour alone: e to those of their own sign, 1/e to others."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 1, 4, 4, bias=False)
        nn.init.constant_(self.patches.weight, 1 / 16)

    def forward(self, x: Tensor) -> Tensor:
        q = self.patches(x).flatten(2).mT[:, None]
        return torch.nn.functional.scaled_dot_product_attention(q, q, q)


@pytest.mark.parametrize("inside", [0.25, 0.5, 0.75])
def test_two_colours_have_the_strength_of_their_contrast(inside: float) -> None:
    """The share of attention that stays with its own colour, less that which the other sends there; one colour: 0."""
    pixels = torch.full((1, 1, 16, 16), -1.0)
    pixels[..., : int(16 * inside), :] = 1.0
    e, part = np.exp(2.0), inside
    expected = part * e / (part * e + 1 - part) - part / (part + (1 - part) * e)
    found = strengths(tr.observe(ByColour(), inputs=pixels), pixels[0] > 0)
    assert found == pytest.approx((expected,), abs=1e-6)
    other = strengths(tr.observe(ByColour(), inputs=pixels), torch.eye(16, dtype=torch.bool)[None])
    assert other is not None
    assert other[0] < expected  # a part that is none


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=15, max_size=15))
def test_a_part_and_the_rest_stand_out_alike(cells: list[bool]) -> None:
    observation = _kept()
    part = torch.tensor(cells).view(3, 5)
    found, rest = strengths(observation, torch.stack([part, ~part]))  # type: ignore[misc]
    assert found == pytest.approx(rest, abs=1e-6)
    assert -1 <= found <= 1
    if all(cells) or not any(cells):
        assert found == 0


def _kept(known: dict[str, tr.Observation] = {}) -> tr.Observation:  # noqa: B006  hypothesis takes no fixtures
    if not known:
        known["seen"] = tr.observe(np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8), size=40)
    return known["seen"]


@pytest.mark.parametrize("colour", [0, 37, 128, 255, (200, 30, 30)])
def test_one_colour_has_none_wherever_it_is_cut(model: tr.Model, colour: Any) -> None:
    even = tr.observe(np.full((64, 80, 3), colour, np.uint8), model, size=40)
    parts = np.random.default_rng(0).random((8, 4, 5)) < 0.4
    assert strengths(even, parts) == pytest.approx((0,) * 8, abs=1e-5)


def test_layers_of_two_grids_count_by_their_number() -> None:
    observation = tr.observe(OWN["patches that shrink"].made(), inputs=PICTURE)
    part = torch.zeros(1, 32, 40, dtype=torch.float64)
    part[:, :16, :20] = 1
    alone = []
    for name, grid in zip(observation.layers, ((4, 5), (2, 2)), strict=True):
        inside = torch.nn.functional.adaptive_avg_pool2d(part, grid).flatten()
        weights = observation.head_chains(name).to_dense().double().mean(0)
        ends = [side @ weights / side.sum() for side in (inside, 1 - inside)]
        alone.append(float((ends[0] - ends[1]).abs().sum() / 2))
    assert contrasts(observation, part).tolist() == pytest.approx([sum(alone) / 2], abs=1e-6)


# ---- where it is not known


def test_what_was_captured_before_has_none(seen: tr.Observation) -> None:
    for source in (seen.trace, seen.head_chains(2, "all")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = tr.tasks.segment(source, tr.at(0.5, 0.5))
        assert found.strengths is None
        assert found.strength is None
        assert "strength" not in repr(found)
        assert "strength" not in json.dumps(found.coco())
    assert tr.baselines.tokencut(seen.trace, layer=2, what="k", centre=True).strength is None


def test_inputs_that_hold_no_picture_have_none(model: tr.Model) -> None:
    class Unfolded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, patches: Tensor) -> Tensor:
            return self.inner(patches, patches, patches)[0]

    layout = tr.TokenLayout.image(3, 4, cls_tokens=0)
    observation = tr.observe(Unfolded().eval(), inputs=torch.randn(1, 12, 8), layout=layout)
    assert strengths(observation, np.eye(3, 4, dtype=bool)[None]) is None
    assert tr.tasks.saliency(observation, how="border").strength is None


def test_tokens_that_depend_on_the_picture_have_none() -> None:
    class Pruned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.attention = nn.Conv2d(3, 8, 8, 8), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).mT
            keep = tokens if x.std() > 0.1 else tokens[:, ::2]
            return self.attention(keep, keep, keep)[0]

    observation = tr.observe(Pruned().eval(), inputs=PICTURE)
    assert observation.grid == (4, 5)
    assert strengths(observation, np.eye(4, 5, dtype=bool)[None]) is None


# ---- what is said


ASKED = {
    "saliency": lambda source, **given: tr.tasks.saliency(source, **given),
    "segment": lambda source, **given: tr.tasks.segment(source, **given),
    "cluster": lambda source, **given: tr.tasks.cluster(source, **given),
    "metastable": lambda source, **given: tr.tasks.cluster(source, how="metastable", k=2, **given),
    "lost": lambda source, **given: tr.baselines.lost(source, **given),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_even_picture_warns_once(model: tr.Model, name: str) -> None:
    with pytest.warns(NothingThereWarning, match="hardly stands out") as told:
        found = ASKED[name](GREY, model=model, size=48)
    assert len(told) == 1
    assert told[0].filename == __file__ or name == "lost"
    assert not any(c.isdigit() for c in str(told[0].message).replace(f"below {FAINT:g}", ""))
    assert found.strength == pytest.approx(0, abs=1e-5)
    assert "strength 0.00, may be nothing" in repr(found)


def test_tokencut_says_it_in_its_own_words(model: tr.Model) -> None:
    with pytest.warns(match="no cut is better than another") as told:
        found = tr.baselines.tokencut(GREY, model=model, size=48)
    assert len(told) == 1
    assert found.strength == found.object.strength == 0


@pytest.mark.parametrize("task", ["saliency", "segment"])
def test_who_keeps_all_is_not_warned(model: tr.Model, task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ASKED[task](GREY, model=model, size=48, rule=None).strength == 0


@pytest.mark.filterwarnings("ignore::tokenrank.errors.NothingThereWarning")
def test_saliency_tells_photographs_from_pictures_without_structure(model: tr.Model) -> None:
    """More of both, and other tasks and networks: benchmarks/nothing_there.py."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 128)[:, None, None] * np.ones((128, 128, 3))
    fine = 255 * (np.indices((128, 128)).sum(0)[..., None] % 2) * np.ones(3)
    noise = random.uniform(0, 255, (128, 128, 3))
    empty = [np.full((128, 128, 3), 90), 0.3 * ramp + 80, fine, noise, 128 + random.normal(0, 9, (128, 128, 3))]
    pictures = [np.clip(values, 0, 255).astype(np.uint8) for values in empty]
    for how in ("arrival", "border"):

        def strength(source: Any, how: Any = how) -> float:
            return tr.tasks.saliency(source, how=how, model=model, size=96).strength  # type: ignore[return-value]

        below = [strength(values) for values in pictures]
        above = [strength(tr.samples.path(name)) for name in tr.samples.names()]
        assert max(below) < min(above)
        if how == "arrival":  # which finds an end of the ramp, whose patches do look at themselves a little more
            del below[1]
        assert max(below) < FAINT


def test_the_warning_names_the_weakest_of_several(model: tr.Model) -> None:
    pixels = np.full((64, 64, 3), 128, np.uint8)
    with pytest.warns(NothingThereWarning, match="'(sky|ground)' of segment hardly stands out"):
        found = tr.tasks.segment(pixels, {"sky": tr.at(0.5, 0.1), "ground": tr.at(0.5, 0.9)}, model=model, size=64)
    assert found.strengths is not None
    assert len(found.strengths) == 2


# ---- where it stands


def test_files_and_pages_hold_it(tmp_path: Any) -> None:
    found = Segmentation(np.array([[0, 1, 1, 2]]), ("background", "cat", "mat"), strengths=(0.4, 0.1))
    assert found.strength == pytest.approx(0.3)
    assert repr(found) == "Segmentation(1 × 4 pixels: cat 50%, mat 25%; strength 0.30)"
    assert "strength 0.30" in found._repr_html_()
    stored = json.loads(found.save(tmp_path / "a.json").read_text())
    assert [a["strength"] for a in stored["annotations"]] == [0.4, 0.1]
    assert stored["info"]["strength"] == pytest.approx(0.3)
    with PIL.Image.open(found.save(tmp_path / "a.png")) as picture:
        assert picture.text["Strength"] == "0.3000"  # type: ignore[attr-defined]
    weak = Segmentation(np.array([[0, 1]]), ("background", "cat"), strengths=(0.01,))
    assert repr(weak) == "Segmentation(1 × 2 pixels: cat 50%; strength 0.01, may be nothing)"
    with pytest.raises(InputError, match="2 strengths of 1 labels, expected one each"):
        Segmentation(np.array([[0, 1]]), ("background", "cat"), strengths=(0.1, 0.2))


def test_several_parts_are_one_number_by_area() -> None:
    assert total_strength([0.5, 0.1], [1, 3]) == pytest.approx(0.2)
    assert total_strength([0.5, 0.1], [0, 0]) == 0
    assert total_strength([], []) == 0
    assert strength_words(None) == "strength not known"


def test_a_map_with_a_mask_of_its_own_holds_it(seen: tr.Observation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, options in {"tokencut": {"layer": 2, "centre": True}, "deep_spectral": {}, "dino_mass": {}}.items():
            found = tr.baselines.methods()[name](seen, **options)
            expected = strengths(seen, found.foreground[None])
            assert (found.strength,) == expected
            assert f"strength {found.strength:.2f}" in repr(found)
        whole = tr.baselines.tokencut(seen, layer=2, centre=True)
        assert (whole.object.strength,) == strengths(seen, whole.object.mask[None])


def test_an_evaluation_asks_for_no_strength(model: tr.Model) -> None:
    forwards: list[int] = []
    handle = model.module.register_forward_hook(lambda *_: forwards.append(1))
    with tr.samples.path("chelsea").open("rb") as file, PIL.Image.open(file) as picture:
        observation = observe_image(model, picture.convert("RGB"), 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tr.tasks.cluster(observation, k=2)
    handle.remove()
    assert found.strengths is None
    assert len(forwards) == 1
