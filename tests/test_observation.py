"""An observation: one forward, and the same chains as the trace's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank import samples
from tokenrank.errors import CaptureError, InputError, LayoutError, NotFoundError
from tokenrank.select import default_layer


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load("bundled", size=64)


@pytest.fixture
def seen(model: tr.Model) -> tr.Observation:
    return tr.observe(samples.path("coffee"), model)


def test_the_forward_runs_once_and_only_when_asked(model: tr.Model) -> None:
    runs = []
    handle = model.module.register_forward_hook(lambda *_: runs.append(1))
    try:
        seen = tr.observe(samples.path("coffee"), model)
        assert "not run yet" in repr(seen)
        assert not runs
        seen.chain(0), seen.chain(3, "lambda2"), seen.features(), seen.output
        assert len(runs) == 1
    finally:
        handle.remove()


def test_chains_are_the_traces(seen: tr.Observation) -> None:
    full = seen.trace[seen.layers[2]][0]
    torch.testing.assert_close(seen.head_chains(2, "all").to_dense(), full.to_dense())
    patches = full.restrict("image").to_dense().double()
    torch.testing.assert_close(seen.head_chains(2).to_dense().double(), patches, rtol=1e-5, atol=1e-7)
    for heads, expected in (("uniform", patches.mean(0)), (1, patches[1]), ([0, 3], patches[[0, 3]].mean(0))):
        torch.testing.assert_close(seen.chain(2, heads).to_dense(), expected, rtol=1e-5, atol=1e-7)  # type: ignore[arg-type]
    w = seen.lambda2(2).values.double()
    mixed = torch.einsum("h,hij->ij", w / w.sum(), patches)
    torch.testing.assert_close(seen.chain(2).to_dense(), mixed, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(seen.head_weights(2), w / w.sum())


def test_heads_are_weighed_on_the_tokens_that_stay(seen: tr.Observation) -> None:
    everything = seen.trace[seen.layers[1]][0]
    w = everything.lambda2().values.double()
    expected = torch.einsum("h,hij->ij", w / w.sum(), everything.to_dense().double())
    torch.testing.assert_close(seen.chain(1, tokens="all").to_dense(), expected, rtol=1e-5, atol=1e-7)


def test_answers_are_kept(seen: tr.Observation) -> None:
    assert seen.chain(2) is seen.chain(seen.layers[2], "lambda2", "image") is seen.chain("*layer.2*")
    assert seen.lambda2(2) is seen.lambda2(2, "image")
    assert seen.chain(2) is not seen.chain(2, tokens="all")
    assert seen.chain(2, 1) is not seen.chain(2, [1])


@pytest.mark.parametrize("heads", [True, False])
def test_a_bool_is_no_head_even_after_that_head_was_asked(seen: tr.Observation, heads: Any) -> None:
    seen.chain(0, 0), seen.chain(0, 1)
    with pytest.raises(InputError, match=f"heads = {heads}"):
        seen.chain(0, heads)


def test_nothing_is_held_dense_beyond_small_mixtures(model: tr.Model) -> None:
    seen = tr.observe(samples.path("coffee"), model, size=448)
    count = len(seen.patches)
    assert count > 1600
    assert type(seen.head_chains(2, "all").operator).__name__ == "QueryKey"
    seen.chain(2).bounce(tr.at(0.5, 0.5), 2)
    held = [value for value in seen._kept.values() if isinstance(value, tr.AttentionChain)]
    assert held
    assert all(type(chain.operator).__name__ != "Dense" for chain in held)


def test_features_are_the_keys_head_by_head(seen: tr.Observation) -> None:
    record = seen.trace.records[-1]
    assert record.k is not None
    features = seen.features()
    assert features.shape == (len(seen.patches), 192)
    torch.testing.assert_close(features[3, 32:64], record.k[0, 1, seen.patches.start + 3])


def test_layers_by_number_name_and_glob(seen: tr.Observation) -> None:
    assert seen.layer() == seen.layers[default_layer(12)]
    assert seen.layer(-1) == seen.layer(seen.layers[11]) == seen.layer("*.layer.11.*") == seen.layers[11]
    assert seen.several_layers() == seen.layers
    assert seen.several_layers("*") == seen.layers
    for wrong in (12, -13, "model.layer.12"):
        with pytest.raises(NotFoundError):
            seen.layer(wrong)


def test_the_choice_in_words(seen: tr.Observation) -> None:
    place = default_layer(12)
    assert seen.describe() == f"layer {place} of 0–11 ({seen.layers[place]}), heads lambda2, tokens image"
    assert seen.describe(tokens=["cls", "image"]).endswith("tokens cls+image")
    assert seen.describe(tokens=[0, 1, 2]).endswith("tokens 3 chosen")
    assert seen.describe(0, [1, 2], "all") == f"layer 0 of 0–11 ({seen.layers[0]}), heads [1, 2], tokens all"


def test_a_batch_of_two(model: tr.Model) -> None:
    inputs = {name: value.repeat(2, 1, 1, 1) for name, value in model.prepare(samples.path("coffee")).items()}
    with pytest.raises(CaptureError, match=r"leading dimensions.*; give one input, a batch of one"):
        tr.observe(model, inputs=inputs).chain(0)
    with tr.capture(model, layers=0) as trace:
        model.forward(inputs)
    with pytest.raises(CaptureError, match=r"; take one, with trace\.select\(sample=0\)"):
        tr.observe(trace).chain(0)


def test_what_was_captured_before_cannot_run_again(seen: tr.Observation) -> None:
    again = tr.observe(seen.trace)
    assert again.output is None
    with pytest.raises(InputError, match="captured before"):
        again.model  # noqa: B018
    alone = tr.observe(seen.trace[0])
    with pytest.raises(InputError, match=r"give tr\.observe its trace"):
        alone.features()


def test_an_unknown_layout_leaves_all_tokens(seen: tr.Observation) -> None:
    blind = tr.observe(seen.trace, layout=False)
    assert blind.modality == "text"
    assert blind.chain(2).num_tokens == seen.head_chains(2, "all").num_tokens
    with pytest.raises(LayoutError, match="tokens='all'"):
        blind.chain(2, tokens="image")


def test_a_map_is_checked(seen: tr.Observation) -> None:
    assert seen.map(torch.zeros(40)).layout == seen.picture_layout
    assert seen.map(torch.zeros(40), 2).caption == f"layer 2 of 0–11 ({seen.layers[2]})"
    for wrong in (torch.zeros(7), [0.0] * 40, None):
        with pytest.raises(InputError, match=r"expected a tensor of shape \(40,\)"):
            seen.map(wrong)  # type: ignore[arg-type]


def test_heads_of_other_libraries(seen: tr.Observation) -> None:
    assert seen.chain(2, np.int64(1)) is seen.chain(2, 1)  # type: ignore[arg-type]
    assert seen.chain(2, np.array([0, 3])) is seen.chain(2, torch.tensor([0, 3])) is seen.chain(2, [0, 3])  # type: ignore[arg-type]
    for wrong in (1.0, None, slice(0, 2), np.array([0.5])):
        with pytest.raises(InputError, match="heads = "):
            seen.chain(2, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("tokens", [True, 3.0, slice(0, 2)])
def test_tokens_of_no_kind(seen: tr.Observation, tokens: Any) -> None:
    with pytest.raises(InputError, match=r"tokens = .*expected 'all'"):
        seen.chain(2, tokens=tokens)


def test_a_notebook_shows_the_layers(seen: tr.Observation) -> None:
    assert "not run yet" in seen._repr_html_()
    seen.chain()
    page = seen._repr_html_()
    assert all(name in page for name in seen.layers)
    assert f"default: layer {default_layer(12)} of 0–11" in page
