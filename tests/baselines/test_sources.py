"""What baselines read: modules of one's own, traces, chains; and what each of these cannot be asked."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr
from tests.baselines.conftest import BUILDERS
from tests.baselines.gradient_models import CLASSES, torchvision_vit
from tokenrank import baselines
from tokenrank.baselines import methods, registry
from tokenrank.errors import CaptureError, InputError, LayoutError

Observe = Callable[[str], tr.Observation]
SHARED = ("raw_row", "column_sum", "cls_row", "dino_mass", "rollout", "attention_flow")
"""Attention is all they need."""
FEATURES = ("tokencut", "lost", "deep_spectral")
RUNS = ("grad_cam", "pytorch_grad_cam", "generic_relevance", "transformer_attribution", "partial_lrp")


def asked(name: str, source: Any, **given: Any) -> tr.TokenMap:
    method = methods()[name]
    return method(source, **({"start": 6} if "seed" in method.needs else {}), **given)


@pytest.mark.parametrize("name", [*SHARED, *FEATURES])
@pytest.mark.filterwarnings("ignore::tokenrank.errors.NotUniqueWarning")
def test_a_trace_says_what_the_observation_says(name: str, observe: Observe) -> None:
    seen = observe("DINOv3")
    keys: Any = {"what": "k"} if name in FEATURES else {}  # values need the model
    assert torch.equal(asked(name, seen.trace, **keys).values, asked(name, seen, **keys).values)


@pytest.mark.parametrize("name", SHARED)
def test_a_chain_with_its_layout_is_a_model_of_one_layer(name: str, observe: Observe) -> None:
    chain = observe("DINOv3").head_chains(1, "all")
    found = asked(name, chain).values
    bare = asked(name, tr.AttentionChain(chain.to_dense()), layout=chain.layout).values
    bound = 1e-7 if name == "attention_flow" else 1e-14  # which counts flow in whole units
    assert (bare - found).abs().max() < bound
    if name in ("raw_row", "column_sum", "cls_row", "dino_mass"):
        assert torch.equal(asked(name, observe("DINOv3"), layer=1).values, found)


@pytest.mark.parametrize("name", FEATURES)
def test_features_of_weights_alone_are_refused(name: str, observe: Observe) -> None:
    seen = observe("DINOv3")
    with pytest.raises(InputError, match="chain alone"):
        asked(name, seen.head_chains(1, "all"))
    weights = tr.from_attentions([seen.head_chains(1, "all").to_dense()[None]], layout=seen.layout)
    with pytest.raises(CaptureError, match="expected queries and keys"):
        asked(name, weights, what="k")
    with pytest.raises(InputError, match=r"another forward.*tr\.observe\(source, model=…\), or take what='k'"):
        asked(name, seen.trace)


@pytest.mark.parametrize("name", RUNS)
def test_gradients_of_what_was_captured_before_are_refused_with_the_cure(name: str, observe: Observe) -> None:
    if name == "pytorch_grad_cam":
        pytest.importorskip("pytorch_grad_cam")
    seen = observe("DINOv3")
    for source in (seen.trace, seen.head_chains(1, "all")):
        with pytest.raises(InputError, match=r"another forward.*tr\.observe\(source, model=…\)"):
            asked(name, source)


def test_a_chain_without_a_layout_is_refused_with_the_cure() -> None:
    with pytest.raises(LayoutError, match=r"layout=tr\.TokenLayout"):
        baselines.rollout(tr.AttentionChain(torch.rand(17, 17).softmax(-1)))


@pytest.fixture(scope="module")
def own() -> nn.Module:
    torch.manual_seed(0)
    module = torchvision_vit().double().eval()
    for parameter in module.parameters():  # torchvision's head is zero
        nn.init.normal_(parameter, std=0.3)
    return module


def test_rollout_of_a_module_of_ones_own(own: nn.Module, pixels: Tensor) -> None:
    with torch.no_grad(), tr.capture(own) as trace:
        own(pixels)
    walked = torch.eye(17, dtype=torch.float64)
    for record in trace.records:
        walked = (torch.eye(17) + trace.chain_of(record).to_dense()[0].mean(0)) / 2 @ walked
    for inputs in (pixels, [pixels], {"x": pixels}):
        found = baselines.rollout(own, inputs=inputs).values
        assert (found - walked[0, 1:]).abs().max() < 1e-12


@pytest.mark.parametrize("name", [*methods()])
@pytest.mark.filterwarnings("ignore::tokenrank.errors.NotUniqueWarning")
def test_a_module_of_ones_own_is_asked_everything(name: str, own: nn.Module, pixels: Tensor) -> None:
    if name == "pytorch_grad_cam":
        pytest.importorskip("pytorch_grad_cam")
        own, pixels = torchvision_vit().eval(), pixels.float()
        nn.init.normal_(own.heads[-1].weight)
    if name in RUNS:
        with pytest.raises(InputError, match=r"no classifier.*tr\.Model\('mine', module, 'image', head="):
            asked(name, own, inputs=pixels)
        own = tr.Model("mine", own, "image", head=lambda output: output)
    found = asked(name, own, inputs=pixels)
    assert found.grid().shape == (4, 4)
    assert torch.isfinite(found.values).all()


def test_the_class_of_a_module_of_ones_own(own: nn.Module, pixels: Tensor) -> None:
    model = tr.Model("mine", own, "image", head=lambda output: output)
    maps = [baselines.grad_cam(model, inputs=pixels, target=target).values for target in range(CLASSES)]
    predicted = int(own(pixels).argmax())
    assert torch.equal(baselines.grad_cam(model, inputs=pixels).values, maps[predicted])
    assert any(not torch.equal(maps[0], other) for other in maps[1:])


def test_a_module_without_inputs_is_refused_with_the_cure() -> None:
    with pytest.raises(InputError, match=r"tr\.observe\(module, inputs="):
        baselines.rollout(BUILDERS["timm"]())


@pytest.fixture
def put_back() -> Iterator[None]:
    before = dict(registry._METHODS)
    yield
    registry._METHODS.clear()
    registry._METHODS.update(before)


@pytest.mark.parametrize("name", ["register", "raw_row", "rollout", "grad_cam", "tokencut"])
def test_examples_in_docstrings_run(name: str, put_back: None) -> None:
    # found by name: a registered function is wrapped, and doctest passes over what comes from another module
    (example,) = doctest.DocTestFinder().find(getattr(baselines, name), name, module=False, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
