"""TokenCut: a known split, an oracle in loops, a real model's keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import Tensor

import tokenrank as tr
from tokenrank.baselines.graphs import tokencut, tokencut_from_features
from tokenrank.errors import InputError, NotUniqueWarning
from tokenrank.models.preprocess import ImageSettings

HALF = ((0.5,) * 3, (0.5,) * 3)


def blocks(picture: str) -> tuple[Tensor, tuple[int, int]]:
    """Features with one orthogonal direction a letter, and the grid."""
    rows = picture.split()
    letters = sorted(set("".join(rows)))
    return torch.eye(len(letters))[[letters.index(c) for c in "".join(rows)]], (len(rows), len(rows[0]))


def drawn(mask: Tensor) -> str:
    return " ".join("".join("#" if cell else "." for cell in row) for row in mask.tolist())


def oracle(features: np.ndarray, tau: float) -> np.ndarray:
    count = len(features)
    weights = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            cosine = features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
            weights[i, j] = 1 if cosine > tau else 1e-5
    degrees = weights.sum(1)
    values, vectors = np.linalg.eig(np.eye(count) - weights / degrees[:, None])
    vector = vectors[:, np.argsort(values.real)[1]].real
    vector = vector / np.sqrt(vector @ (degrees * vector))
    seed = np.abs(vector).argmax()
    return vector if vector[seed] > vector.mean() else -vector


@pytest.fixture(scope="module")
def vit() -> tr.Model:
    torch.manual_seed(3)
    config = hf.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, image_size=32, patch_size=8
    )
    module = hf.ViTModel(config, add_pooling_layer=False).eval()
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2 and "embeddings" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return tr.Model("vit", module, "image", ImageSettings(32, (8, 8), *HALF, native=(32, 32)))


@pytest.fixture
def inputs(vit) -> dict[str, Tensor]:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return vit.prepare(Image.fromarray(noise))


def test_two_blocks_by_hand():
    features, grid = blocks("aaaa abba aaaa")
    found = tokencut_from_features(features, grid)
    assert drawn(found.object.mask) == drawn(found.foreground) == ".... .##. ...."
    assert found.object.seed == 5
    assert found.object.box == (0.25, 1 / 3, 0.75, 2 / 3)
    # both blocks are constant, and x is orthogonal to 1 under the degrees
    inside, outside = 2 + 10e-5, 10 + 2e-5
    ratio = -(10 * outside) / (2 * inside)
    assert float(found.values[5] / found.values[0]) == pytest.approx(ratio)
    assert 2 * inside * found.values[5] ** 2 + 10 * outside * found.values[0] ** 2 == pytest.approx(1)


def test_a_cosine_of_exactly_tau_is_not_alike():
    features, grid = blocks("aaaa abba aaaa")
    assert drawn(tokencut_from_features(features, grid, tau=0).object.mask) == ".... .##. ...."


def test_only_the_part_around_the_seed_is_the_object():
    features, grid = blocks("baaaa aaaaa aaabb")
    found = tokencut_from_features(features, grid)
    assert drawn(found.foreground) == "#.... ..... ...##"
    assert found.object.seed == 0
    assert drawn(found.object.mask) == "#.... ..... ....."


def test_parts_that_touch_at_a_corner_are_apart():
    features, grid = blocks("baaaa abaaa aaaaa")
    assert drawn(tokencut_from_features(features, grid).object.mask) == "#.... ..... ....."


@pytest.mark.parametrize("tau", [0.2, -0.1])
def test_agrees_with_loops(tau):
    features = torch.randn(20, 5)
    found = tokencut_from_features(features, (4, 5), tau)
    expected = oracle(features.double().numpy(), tau)
    assert found.values.numpy() == pytest.approx(expected, abs=1e-10)
    assert found.object.seed == np.abs(expected).argmax()
    assert found.foreground.flatten().tolist() == (expected > expected.mean()).tolist()
    assert found.object.mask.flatten()[found.object.seed]


def test_scale_and_sign_of_features_do_not_matter():
    features = torch.randn(20, 5)
    expected = tokencut_from_features(features, (4, 5)).values
    scales = torch.rand(20, 1) + 0.5
    assert torch.allclose(tokencut_from_features(-scales * features, (4, 5)).values, expected)


def test_patches_in_another_order_give_the_same_map_in_that_order():
    features, order = torch.randn(20, 5), torch.randperm(20)
    whole, shuffled = (tokencut_from_features(f, (4, 5)) for f in (features, features[order]))
    assert torch.allclose(shuffled.values, whole.values[order])
    assert order[shuffled.object.seed] == whole.object.seed


@pytest.mark.parametrize(("features", "found"), [(torch.ones(6, 3), "all"), (torch.eye(6), "no")])
def test_no_object_where_all_patches_are_equally_alike(features, found):
    with pytest.warns(NotUniqueWarning, match=f"{found} pairs"):
        cut = tokencut_from_features(features, (2, 3))
    assert not cut.values.any()
    assert not cut.object.mask.any()
    assert cut.object.seed is None
    assert cut.object.box is None


def test_a_large_common_mean_hides_the_object_until_it_is_subtracted():
    features, grid = blocks("aaaa abba aaaa")
    with pytest.warns(NotUniqueWarning, match="centre=True"):
        tokencut_from_features(features + 10, grid)
    assert drawn(tokencut_from_features(features + 10, grid, centre=True).object.mask) == ".... .##. ...."


@pytest.mark.parametrize(
    ("features", "tau", "message"),
    [
        (torch.ones(1, 3), 0.2, "two at least"),
        (torch.full((1, 3), float("nan")).repeat(2, 1), 0.2, "NaN"),
        (torch.ones(2, 3), 1.5, "-1 to 1"),
        (torch.ones(2, 3), float("nan"), "-1 to 1"),
    ],
)
def test_what_cannot_be_cut_is_refused(features, tau, message):
    with pytest.raises(InputError, match=message):
        tokencut_from_features(features, (1, len(features)), tau)


def test_a_real_model_is_cut_by_the_keys_of_its_last_block(vit, inputs):
    keys = []
    names = [n for n, _ in vit.module.named_modules() if n.rpartition(".")[2] in ("key", "k_proj")]
    handle = vit.module.get_submodule(names[-1]).register_forward_hook(lambda m, a, out: keys.append(out))
    vit.forward(inputs)
    handle.remove()
    expected = oracle(keys[0][0, 1:].double().numpy(), 0.2)
    found = tokencut(vit, inputs=inputs, layer=-1, what="k")
    assert found.grid().shape == (4, 4)
    assert found.values.numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(found.mask(), found.foreground)
    assert (found.object.mask <= found.foreground).all()


def test_values_three_quarters_up_unless_otherwise_asked(vit, inputs):
    outputs = []
    names = [n for n, _ in vit.module.named_modules() if n.rpartition(".")[2] in ("value", "v_proj")]
    handle = vit.module.get_submodule(names[3 * len(names) // 4]).register_forward_hook(
        lambda m, a, out: outputs.append(out)
    )
    vit.forward(inputs)
    handle.remove()
    found = tokencut(vit, inputs=inputs)
    assert found.values.numpy() == pytest.approx(oracle(outputs[0][0, 1:].double().numpy(), 0.2), abs=1e-4)


def test_layer_threshold_and_features_are_options(vit, inputs):
    seen = tr.observe(vit, inputs=inputs)
    expected = tokencut_from_features(seen.features(0, "q"), seen.grid, 0.1)
    assert torch.equal(tokencut(seen, layer=0, what="q", tau=0.1).values, expected.values)
    assert not torch.equal(tokencut(seen, layer=0).values, expected.values)


def test_an_observation_is_cut_once(vit, inputs):
    seen = tr.observe(vit, inputs=inputs)
    assert tokencut(seen).values is tokencut(seen).values
    assert tokencut(seen).values is not tokencut(seen, centre=True).values
