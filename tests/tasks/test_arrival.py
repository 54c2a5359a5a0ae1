"""Arrival: TokenRank over backward TokenRank, spread over what looks alike, against matrices in float64."""

from __future__ import annotations

import functools
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tokenrank as tr
from tests.own_modules import OWN, PICTURE
from tokenrank.errors import CaptureError, ChainError, InputError, LayoutError, NotFoundError
from tokenrank.tasks.arrival import PEAK, geometric_mean, last_quarter, without_peaks


@pytest.fixture(scope="module")
def seen() -> tr.Observation:
    return tr.observe(tr.samples.path("coffee"), tr.load("bundled"), size=64)


# ---- by the definition, with NumPy


def rank(a: np.ndarray, alpha: float = 0.99) -> np.ndarray:
    n = len(a)
    return np.linalg.solve(np.eye(n) - alpha * a.T, np.full(n, (1 - alpha) / n))


def attention(seen: tr.Observation, layer: int) -> np.ndarray:
    """Of the patches, heads evenly, rows renormalised."""
    weights = seen.head_chains(layer, "all").to_dense().double()
    kept = weights[:, seen.patches.start : seen.patches.stop, seen.patches.start : seen.patches.stop]
    return np.asarray((kept / kept.sum(-1, keepdim=True)).mean(0))


def geometric(rows: list[np.ndarray]) -> np.ndarray:
    mean = np.exp(np.mean([np.log(row) for row in rows], 0))
    return mean / mean.sum()


def without(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    padded = np.pad(values.reshape(grid), 1, mode="edge")
    blocks = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*grid, 9)
    return np.minimum(values, 1.5 * np.median(blocks, -1).ravel())


def walk(seen: tr.Observation, tau: float | None) -> np.ndarray:
    features = seen.features(-1, "h").double().numpy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    weights = np.exp((cosines - 1) / (cosines.std() / 2 if tau is None else tau))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("n", "tau", "backward"), [(2, None, True), (1, 0.1, True), (3, None, False), (0, None, True)])
def test_it_is_what_the_definition_says(n: int, tau: float | None, backward: bool, seen: tr.Observation) -> None:
    layers = [attention(seen, layer) for layer in (9, 10, 11)]
    values = without(geometric([rank(a) for a in layers]), seen.grid)
    if backward:
        values = values / geometric([rank((a / a.sum(0)).T) for a in layers])
    expected = np.linalg.matrix_power(walk(seen, tau), n) @ values
    found = tr.tasks.arrival(seen, n=n, tau=tau, backward=backward)
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=2e-4)
    assert found.layout == seen.picture_layout
    assert found.picture is seen.picture


def test_other_starts(seen: tr.Observation) -> None:
    columns = without(geometric([attention(seen, layer).sum(0) for layer in (9, 10, 11)]), seen.grid)
    found = tr.tasks.arrival(seen, start="column", n=0, backward=False)
    np.testing.assert_allclose(found.values.numpy(), columns, rtol=1e-5)
    rows = [
        seen.head_chains(layer, "all").to_dense().double().mean(0)[0, seen.patches.start :] for layer in (9, 10, 11)
    ]
    found = tr.tasks.arrival(seen, start="cls", n=0, backward=False)
    np.testing.assert_allclose(
        found.values.numpy(), without(geometric([np.asarray(r) for r in rows]), seen.grid), rtol=1e-5
    )


def test_saliency_takes_it_by_default(seen: tr.Observation) -> None:
    assert torch.equal(tr.tasks.saliency_map(seen).values, tr.tasks.arrival(seen).values)
    assert torch.equal(tr.baselines.arrival(seen, n=1).values, tr.tasks.arrival(seen, n=1).values)
    assert torch.equal(tr.baselines.saliency(seen).values, tr.tasks.arrival(seen).values)


def test_the_caption_says_it_all(seen: tr.Observation) -> None:
    expected = (
        r"TokenRank over backward TokenRank of layers 9 to 11 of 0–11, heads uniform; 2 steps along layer 11 of 0–11 "
        r"\(model.layer.11.attention\), cosines of block outputs, temperature 0\.\d+"
    )
    assert re.fullmatch(expected, tr.tasks.arrival(seen).caption)
    assert (
        "column sums of layer 3 of 0–11, heads [0, 1]; 1 step along"
        in tr.tasks.arrival(seen, layer=3, heads=[0, 1], start="column", n=1, what="k", backward=False).caption
    )
    assert tr.tasks.arrival(seen, n=0).caption.endswith("heads uniform")


def test_it_finds_an_object_that_one_patch_of_it_stands_for() -> None:
    """Attention goes to one patch of the object; features say how far it reaches."""
    object_ = torch.zeros(6, 6)
    object_[1:4, 2:5] = 1

    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.blocks = nn.Conv2d(1, 4, 4, 4), nn.ModuleList([Block()])

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks[0](self.patches(x).flatten(2).mT)  # type: ignore[no-any-return]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            q = torch.zeros(1, 1, 36, 2)
            q[..., 0] = 1
            k = torch.zeros(1, 1, 36, 2)
            k[..., [14, 15, 20, 21], 0] = 6  # some patches of the object, of which none stands alone
            out = torch.nn.functional.scaled_dot_product_attention(q, k, torch.zeros(1, 1, 36, 4))[0]
            self.second(self.first(out))
            features = torch.stack([object_.flatten(), 1 - object_.flatten()], -1) @ torch.randn(2, 4)
            return features[None]

    torch.manual_seed(0)
    observation = tr.observe(
        Seeing().eval(), inputs=torch.randn(1, 1, 24, 24), layout=tr.TokenLayout.image(6, 6, cls_tokens=0)
    )
    found = tr.tasks.arrival(observation)
    assert torch.equal(found.mask(), object_ > 0)
    assert found.mask().sum() > tr.tasks.arrival(observation, n=0).mask().sum()


# ---- its parts


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(2, 12), st.integers(0, 2**31 - 1))
def test_a_geometric_mean_is_a_distribution_between_its_parts(layers: int, count: int, seed: int) -> None:
    rows = torch.rand(layers, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 1e-9
    rows = rows / rows.sum(-1, keepdim=True)
    found = geometric_mean(list(rows))
    assert float(found.sum()) == pytest.approx(1)
    expected = rows.prod(0) ** (1 / layers)
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-9, atol=1e-15)


def test_what_one_layer_never_reaches_has_nothing() -> None:
    one, other = torch.tensor([0.0, 0.5, 0.5]), torch.tensor([0.9, 0.1, 0.0])
    assert geometric_mean([one, other]).tolist() == [0, 1, 0]
    assert geometric_mean([torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])]).tolist() == [0, 0]


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_no_patch_keeps_more_than_its_neighbourhood_allows(rows: int, columns: int, seed: int) -> None:
    values = torch.rand(rows * columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 4
    found = without_peaks(values, (rows, columns))
    np.testing.assert_allclose(found.numpy(), without(values.numpy(), (rows, columns)), rtol=1e-12)
    assert (found <= values).all()


def test_a_sink_is_cut_and_a_plateau_stays() -> None:
    grid = torch.ones(7, 7, dtype=torch.float64)
    grid[3, 1] = 100  # alone
    grid[2:5, 3:6] = 10  # an object
    found = without_peaks(grid.flatten(), (7, 7)).view(7, 7)
    assert found[3, 1] == PEAK
    assert found[3, 4] == 10
    assert (found[2:5, 3:6] >= PEAK).all()


def test_the_last_quarter_of_a_network() -> None:
    expected = {1: 1, 2: 1, 3: 1, 4: 1, 6: 2, 8: 2, 12: 3, 24: 6, 40: 10}
    assert {count: len(last_quarter([str(i) for i in range(count)])) for count in expected} == expected
    assert last_quarter("abcdefghijkl") == tuple("jkl")
    lengths = [len(last_quarter(range(count))) for count in range(1, 50)]  # type: ignore[arg-type]
    assert all(a <= b for a, b in pairwise(lengths))


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"start": "rollout"}, InputError, "start = 'rollout', expected one of 'tokenrank', 'cls', 'column'"),
        ({"n": -1}, InputError, "n = -1 steps"),
        ({"n": 1.5}, InputError, "n = 1.5 steps"),
        ({"tau": 0}, ChainError, "tau = 0, expected a temperature above 0"),
        ({"tau": float("nan")}, ChainError, "tau = nan"),
        ({"what": "x"}, InputError, "what = 'x'"),
        ({"layer": 99}, NotFoundError, "99"),
        ({"heads": 99}, NotFoundError, "no head 99"),
        ({"features_layer": "nothing"}, NotFoundError, "nothing"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], words: str, seen: tr.Observation) -> None:
    with pytest.raises(error, match=words):
        tr.tasks.arrival(seen, **options)


def test_takes_a_picture_as_other_tasks_do(seen: tr.Observation) -> None:
    found = tr.tasks.arrival(tr.samples.path("coffee"), n=1, model="bundled", size=64)
    assert torch.equal(found.values, tr.tasks.arrival(seen, n=1).values)
    with pytest.raises(InputError, match=r"no file 'nothing\.jpg'"):
        tr.tasks.arrival("nothing.jpg")


def test_what_was_captured_before_has_keys_alone(seen: tr.Observation) -> None:
    before = tr.observe(seen.trace)
    with pytest.raises((InputError, CaptureError), match="model"):
        tr.tasks.arrival(before)
    for captured in (before, seen.trace, seen.chain(-1)):
        with pytest.raises(InputError, match=r"tr\.observe\(source, model=…\), or .*how='border', 'tokenrank'"):
            tr.tasks.saliency(captured)
        for how in ("border", "tokenrank", "slow", "metastable"):
            tr.tasks.saliency(captured, how=how)  # the cure, as the error has it
    tr.tasks.saliency(before, how=functools.partial(tr.tasks.arrival, what="k"))
    found = tr.tasks.arrival(before, what="k").values
    torch.testing.assert_close(found, tr.tasks.arrival(seen, what="k").values)
    with pytest.raises(InputError, match="trace"):
        tr.tasks.arrival(tr.observe(seen.chain(-1)))


def test_a_picture_one_patch_high() -> None:
    chain = tr.AttentionChain(torch.full((6, 6), 1 / 6), tr.TokenLayout.image(1, 6, cls_tokens=0))
    with pytest.raises(InputError, match="1 × 6 patches, expected 3 × 3 or more"):
        tr.tasks.saliency(chain, how="border")


def test_a_network_without_cls() -> None:
    observation = tr.observe(OWN["by hand, no CLS"].made(), inputs=PICTURE)
    assert torch.isfinite(tr.tasks.arrival(observation, n=0).values).all()
    with pytest.raises((NotFoundError, ChainError, LayoutError), match="cls"):
        tr.tasks.arrival(observation, start="cls", n=0)


def test_layers_of_two_grids() -> None:
    observation = tr.observe(OWN["patches that shrink"].made(), inputs=PICTURE)
    with pytest.raises(InputError, match=r"\(4, 5\) and \(2, 2\), expected one grid; take .* layer=1$"):
        tr.tasks.arrival(observation, layer=[0, 1])
    with pytest.raises(InputError, match="expected one grid"):
        tr.tasks.arrival(observation, layer=0, features_layer=1)


# ---- the chain of features


def test_the_chain_of_features_is_a_chain(seen: tr.Observation) -> None:
    chain = seen.features_chain(-2, "v", 0.2)
    assert chain.layout == seen.picture_layout
    assert chain.picture is seen.picture
    assert chain.caption == ("bundled, layer 10 of 0–11 (model.layer.10.attention), cosines of values, temperature 0.2")
    unit = torch.nn.functional.normalize(seen.features(-2, "v").double(), dim=-1)
    torch.testing.assert_close(chain.to_dense().double(), (unit @ unit.T / 0.2).softmax(-1), rtol=1e-4, atol=1e-9)
    assert type(chain.operator).__name__ == "QueryKey"
    found = chain.tokenrank()
    assert found.certificate is not None
    assert found.certificate.converged
    assert seen.features_chain(-2, "v", 0.2) is chain


def test_a_text_has_one_of_all_tokens() -> None:
    observation = tr.observe(OWN["a text"].made(), inputs=OWN["a text"].inputs)
    assert observation.features_chain(what="k").num_tokens == observation.chain().num_tokens
