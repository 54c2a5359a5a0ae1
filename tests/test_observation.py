"""An observation: one forward, and the same chains as the trace's own."""

from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from tokenrank import samples
from tokenrank.errors import CaptureError, InputError, NotFoundError


@pytest.fixture(scope="module")
def model() -> tr.Model:
    return tr.load("bundled", size=64)


@pytest.fixture
def seen(model: tr.Model) -> tr.Observation:
    return tr.Observation(model, model.prepare(samples.path("coffee")))


def test_the_forward_runs_once_and_only_when_asked(model: tr.Model) -> None:
    runs = []
    handle = model.module.register_forward_hook(lambda *_: runs.append(1))
    try:
        seen = tr.Observation(model, model.prepare(samples.path("coffee")))
        assert not runs
        seen.chain(0), seen.chain(3, "lambda2"), seen.features(), seen.output
        assert len(runs) == 1
    finally:
        handle.remove()


def test_chains_are_the_traces(seen: tr.Observation) -> None:
    full = seen.trace[seen.layers[2]][0]
    torch.testing.assert_close(seen.full(2).to_dense(), full.to_dense().double(), rtol=1e-5, atol=1e-7)
    patches = seen.full(2).restrict("image").to_dense()
    torch.testing.assert_close(seen.patch_heads(2).to_dense(), patches)
    torch.testing.assert_close(seen.chain(2).to_dense(), patches.mean(0))
    torch.testing.assert_close(seen.chain(2, 1).to_dense(), patches[1])
    w = seen.lambda2(2).double()
    torch.testing.assert_close(seen.chain(2, "lambda2").to_dense(), torch.einsum("h,hij->ij", w / w.sum(), patches))


def test_all_heads_are_in_the_order_of_the_layers(seen: tr.Observation) -> None:
    chains, lambda2 = seen.all_heads([1, 4])
    assert chains.shape[0] == lambda2.shape[0] == 8
    torch.testing.assert_close(chains[4:].to_dense(), seen.patch_heads(4).to_dense())
    torch.testing.assert_close(lambda2[4:], seen.lambda2(4))
    assert seen.all_heads()[1].shape == (24,)


def test_features_are_the_keys_head_by_head(seen: tr.Observation) -> None:
    record = seen.trace.records[-1]
    assert record.k is not None
    features = seen.features()
    assert features.shape == (len(seen.patches), 192)
    torch.testing.assert_close(features[3, 48:96], record.k[0, 1, seen.patches.start + 3])


def test_layers_by_number_and_name(seen: tr.Observation) -> None:
    assert seen.layer_name(None) == seen.layers[3]
    assert seen.layer_name(-1) == seen.layer_name(seen.layers[5]) == seen.layers[5]
    for wrong in (6, -7, "model.layer.9"):
        with pytest.raises(NotFoundError):
            seen.layer_name(wrong)


def test_unknown_heads(seen: tr.Observation) -> None:
    with pytest.raises(InputError, match="lambda3"):
        seen.chain(0, "lambda3")  # type: ignore[arg-type]


def test_a_batch_of_two(model: tr.Model) -> None:
    inputs = {name: value.repeat(2, 1, 1, 1) for name, value in model.prepare(samples.path("coffee")).items()}
    with pytest.raises(CaptureError, match="leading dimensions"):
        tr.Observation(model, inputs).full(0)
