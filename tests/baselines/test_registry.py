"""The registry of methods: one of one's own in three lines, options, and what is no method."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tokenrank as tr
from tokenrank import baselines
from tokenrank.baselines import Method, methods, register, registry
from tokenrank.errors import InputError, LayoutError, NotFoundError


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Methods that a test registers go with it."""
    before = dict(registry._METHODS)
    yield
    registry._METHODS.clear()
    registry._METHODS.update(before)


@pytest.fixture(scope="module")
def seen() -> tr.Observation:
    return tr.observe(tr.samples.path("chelsea"), size=64)


def key_norms(observation: tr.Observation, *, layer: Any = None) -> tr.TokenMap:
    return observation.map(observation.features(layer).norm(dim=-1))


def test_a_method_of_ones_own_in_three_lines(seen: tr.Observation) -> None:
    @tr.baselines.register("mine", needs=("features",))
    def mine(observation, *, layer=None):
        return observation.map(observation.features(layer).norm(dim=-1))

    expected = seen.features(2).norm(dim=-1)
    assert torch.equal(mine(seen, layer=2).values, expected)
    assert torch.equal(mine(tr.samples.path("chelsea"), size=64, layer=2).values, expected)
    assert torch.equal(methods()["mine"](seen, layer=2).values, expected)
    assert methods()["mine"].needs == ("features",)
    assert dict(methods()["mine"].options) == {"layer": None}
    assert inspect.signature(mine) == inspect.signature(mine.__wrapped__)


def test_a_function_is_registered_by_itself_and_with_options_without_names(seen: tr.Observation) -> None:
    mine = register("mine", functools.partial(key_norms, layer=1))
    assert torch.equal(mine(seen).values, key_norms(seen, layer=1).values)
    assert dict(methods()["mine"].options) == {"layer": 1}


def test_all_there_are_with_what_they_need() -> None:
    assert {name: set(method.needs) for name, method in methods().items() if method.needs} == {
        "raw_row": {"seed"},
        "bounce": {"seed"},
        "random": {"random"},
        **{name: {"features"} for name in ("tokencut", "lost", "deep_spectral", "arrival", "saliency")},
        **{name: {"class", "gradients"} for name in ("grad_cam", "pytorch_grad_cam", "generic_relevance")},
        **{name: {"class", "gradients"} for name in ("transformer_attribution", "partial_lrp")},
    }
    without = {"column_sum", "cls_row", "dino_mass", "rollout", "attention_flow", "centre_prior", "lattice"}
    without |= {"cls_bounce", "tokenrank"}
    assert {name for name, method in methods().items() if not method.needs} >= without


@pytest.mark.parametrize("name", methods())
def test_every_method_gives_a_finite_map_of_the_patches(name: str, seen: tr.Observation) -> None:
    if name == "pytorch_grad_cam":
        pytest.importorskip("pytorch_grad_cam")
    method = methods()[name]
    method = method.bind(layer=2) if name in ("tokencut", "lost", "deep_spectral") else method
    given = {"start": tr.at(0.5, 0.5), "target": None, "random": 3}
    found = method(seen, **{option: given[option] for option in method.filled})
    assert torch.isfinite(found.values).all()
    assert found.layout == seen.picture_layout


@pytest.mark.parametrize("name", methods())
def test_every_public_function_is_its_method(name: str) -> None:
    public = getattr(baselines, {"random": "random_map"}.get(name, name))
    method = methods()[name]
    assert public.__wrapped__ is method.function
    first, *options, last = inspect.signature(public).parameters
    assert (first, last) == ("source", "reading")
    assert {*options} == {*method.options, *method.filled}
    assert "source, reading: see ``tr.observe``" in inspect.getdoc(public)


def test_options_have_the_defaults_of_the_signature_and_fillings_are_none_of_them() -> None:
    assert dict(methods()["raw_row"].options) == {"layer": None, "heads": "lambda2"}
    assert methods()["raw_row"].filled == ("start",)
    assert dict(methods()["tokencut"].options) == {"layer": None, "tau": 0.2, "what": "v", "centre": False}
    assert methods()["grad_cam"].filled == ("target",)
    assert "start" in methods()["rollout"].options  # one may be given, none is needed


def test_bound_options_are_the_new_defaults(seen: tr.Observation) -> None:
    bound = methods()["cls_row"].bind(layer=1, heads=0)
    assert dict(bound.options) == {"layer": 1, "heads": 0}
    assert torch.equal(bound(seen).values, baselines.cls_row(seen, layer=1, heads=0).values)
    assert torch.equal(bound(seen, heads=1).values, baselines.cls_row(seen, layer=1, heads=1).values)
    assert dict(methods()["cls_row"].options) == {"layer": -1, "heads": "uniform"}


def test_an_unknown_option_names_those_that_there_are(seen: tr.Observation) -> None:
    message = r"method 'rollout' has no option 'starts'; it has start, start_layer, residual"
    with pytest.raises(NotFoundError, match=message):
        methods()["rollout"].bind(starts=1)
    with pytest.raises(NotFoundError, match=message):
        baselines.rollout(seen, starts=1)
    with pytest.raises(NotFoundError, match="'lattice' has no option 'target'; it has none"):
        baselines.lattice(seen, target=7)
    with pytest.raises(NotFoundError, match="it has layer, heads"):
        methods()["raw_row"].bind(start=3)
    with pytest.raises(NotFoundError, match="it has layer, heads, start"):
        baselines.raw_row(seen, target=3)


def test_the_keywords_of_observe_are_passed_on() -> None:
    path = tr.samples.path("coffee")
    assert baselines.column_sum(path, size=64).grid().shape == tr.observe(path, size=64).grid
    first = tr.observe(path, size=64).layers[0]
    assert torch.equal(
        baselines.column_sum(path, size=64, layers=first).values, baselines.column_sum(path, size=64, layer=0).values
    )
    with pytest.raises(InputError, match="leave size out"):
        baselines.column_sum(tr.observe(path, size=64), size=32)
    with pytest.raises(NotFoundError, match="no_such_model"):
        baselines.column_sum(path, model="no_such_model")


def test_one_source_alone_has_no_name() -> None:
    module, pixels = torch.nn.Identity(), torch.zeros(1, 3, 8, 8)
    with pytest.raises(InputError, match=r"rollout takes one source.*rollout\(module, inputs=…\)"):
        baselines.rollout(module, pixels)


def test_the_mapping_of_all_methods_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        methods()["mine"] = methods()["rollout"]  # type: ignore[index]


def test_a_name_is_taken_once_unless_it_is_replaced(seen: tr.Observation) -> None:
    register("mine", key_norms)
    with pytest.raises(InputError, match="'mine' is there already; take another name, or replace=True"):
        register("mine", key_norms)
    register("mine", lambda observation, *, layer=3: key_norms(observation, layer=layer), replace=True)
    assert dict(methods()["mine"].options) == {"layer": 3}
    with pytest.raises(InputError, match="'rollout' is there already"):
        register("rollout", key_norms)


def no_arguments() -> tr.TokenMap: ...


def no_observation(*, layer: int = 0) -> tr.TokenMap: ...


def needed_option(observation: tr.Observation, *, depth: int) -> tr.TokenMap: ...


def nameless_option(observation: tr.Observation, depth: int = 0, /) -> tr.TokenMap: ...


def option_of_observe(observation: tr.Observation, *, size: int = 0) -> tr.TokenMap: ...


@pytest.mark.parametrize(
    ("name", "function", "needs", "message"),
    [
        ("", key_norms, (), "expected a word"),
        ("a:b", key_norms, (), "expected a word"),
        (3, key_norms, (), "name = 3"),
        ("mine", 3, (), "is int, expected a function"),
        ("mine", key_norms, "seed", r"such as \('seed',\)"),
        ("mine", key_norms, None, "needs = None"),
        ("mine", key_norms, ("sed",), "needs 'sed', expected some of seed, class.*nearest: 'seed'"),
        ("mine", key_norms, ("seed",), "no option 'start'.*add start=None"),
        ("mine", key_norms, ("random",), "no option 'random'"),
        ("mine", no_arguments, (), "says no arguments"),
        ("mine", no_observation, (), r"begins with layer: .*, expected an observation"),
        ("mine", needed_option, (), r"option 'depth' .* no default.*write \*, depth=…"),
        ("mine", nameless_option, (), "option 'depth' of method 'mine'"),
        ("mine", option_of_observe, (), "'size' of method 'mine' is an argument of tr.observe"),
    ],
)
def test_what_is_no_method_is_refused(name: Any, function: Any, needs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register(name, function, needs=needs)
    with pytest.raises(InputError, match=message):
        register(name, needs=needs)(function)
    assert "mine" not in methods()


def test_a_decorator_without_a_name_is_refused_with_the_cure() -> None:
    with pytest.raises(InputError, match=r"no name; write @tr\.baselines\.register\('my_method'\)"):
        register(key_norms)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda observation: observation.features(0).norm(dim=-1), "returned Tensor, expected a TokenMap"),
        (lambda observation: None, "returned NoneType"),
        (lambda observation: tr.TokenMap(torch.rand(40)), "a map of unknown tokens, expected patches alone"),
        (lambda observation: observation.head_chains().tokenrank(), r"shape \(6, 40\), expected one map"),
        (lambda observation: observation.chain(tokens="all").tokenrank(), "a map of cls 1, .* expected patches alone"),
        (lambda observation: observation.map(torch.rand(7)), r"values are \(7,\), expected a tensor of shape \(40,\)"),
    ],
)
def test_what_is_no_map_of_the_patches_is_refused(values: Any, message: str, seen: tr.Observation) -> None:
    mine = register("mine", values)
    with pytest.raises(InputError, match=message):
        mine(seen)


def test_a_text_has_no_patches(tmp_path: Any) -> None:
    from tests.tiny import SENTENCE, save_bert

    model = tr.load(save_bert(tmp_path))
    with pytest.raises(LayoutError, match=r"rollout makes a map of a picture's patches.*ask observation\.chain\(\)"):
        baselines.rollout(SENTENCE, model=model)


def test_a_function_that_is_not_registered_is_a_method_too(seen: tr.Observation) -> None:
    method = Method.of("key_norms", key_norms).bind(layer=1)
    assert torch.equal(method(seen).values, key_norms(seen, layer=1).values)
    assert "key_norms" not in methods()
