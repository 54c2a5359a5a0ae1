"""Methods by name, as ``--methods`` takes them: ``tokenrank:layer=3:heads=uniform,rollout,bounce:n=2``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from .. import baselines
from ..chain import AttentionChain, TokenMap
from ..errors import InputError, NotFoundError, nearest
from ..layout import Point
from ..observation import Heads, Layer, Observation
from ..tasks.saliency import border, saliency_map

Asks: TypeAlias = Literal["nothing", "seed", "class"]


@dataclass(frozen=True)
class Query:
    """What a method may be told about a picture.

    Attributes:
        seed: a point on the object.
        label: a class; the predicted one where None.
        random: seed of random numbers, of this picture.
    """

    seed: Point | None = None
    label: int | None = None
    random: int = 0


@dataclass(frozen=True)
class Method:
    """A way to get a map of the patches.

    Attributes:
        name: as typed, options in order.
        asks: what it must be told.
        run: the map, from a picture seen by a model.
    """

    name: str
    asks: Asks
    run: Callable[[Observation, Query], TokenMap]


def parse_methods(text: str) -> tuple[Method, ...]:
    """Methods from their names, commas between them, options after colons.

    Values are whole numbers, numbers, yes, no, none, or words.

    Raises:
        NotFoundError: no method, or no option, of that name. InputError: no method at all, or one twice.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"no methods in {text!r}, expected some of {', '.join(METHODS)}")
    methods = tuple(_parse(part) for part in parts)
    names = [method.name for method in methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"method {twice[0]!r} is given twice")
    return methods


def describe() -> dict[str, tuple[Asks, dict[str, Any]]]:
    """Name → what it asks for, and its options with their defaults."""
    return {name: (asks, _options(function)) for name, (asks, function) in METHODS.items()}


def bounce(
    observation: Observation,
    query: Query,
    *,
    n: int | str = 2,
    layer: Layer = None,
    heads: Heads = "uniform",
    direction: str = "forward",
) -> TokenMap:
    """Multi-bounce attention from the seed, on the patches alone."""
    chain = observation.chain(layer, heads)
    return observation.map(chain.bounce(query.seed, n, direction).values)  # type: ignore[arg-type]


def cls_bounce(
    observation: Observation,
    query: Query,
    *,
    n: int | str = 2,
    layer: Layer = None,
    heads: Heads = "uniform",
    direction: str = "forward",
) -> TokenMap:
    """Multi-bounce attention from CLS, on all tokens."""
    full = observation.full(layer)
    if isinstance(heads, int):
        chain = full[heads]
    else:
        chain = full.aggregate(observation.lambda2(layer) if heads == "lambda2" else torch.ones(full.batch))
    values = chain.bounce("cls", n, direction).values  # type: ignore[arg-type]
    return observation.map(values[..., observation.patches.start : observation.patches.stop])


def tokenrank(
    observation: Observation,
    query: Query,
    *,
    layer: Layer = None,
    heads: Heads = "uniform",
    direction: str = "forward",
    alpha: float = 0.99,
) -> TokenMap:
    """The stationary distribution of the patches' chain."""
    return observation.chain(layer, heads).tokenrank(alpha=alpha, direction=direction)  # type: ignore[arg-type]


def saliency(
    observation: Observation,
    query: Query,
    *,
    how: str = "border",
    layer: Layer = None,
    heads: Heads = "lambda2",
    side: str = "border",
) -> TokenMap:
    """``tokenrank.tasks.saliency_map``; all layers where none is named."""
    layers = None if layer is None else (layer,)
    return saliency_map(observation, how, layers=layers, heads=heads, side=side)  # type: ignore[arg-type]


def lattice(observation: Observation, query: Query) -> TokenMap:
    """What the border alone says: bounces of a walk between neighbouring patches until it gets there; no attention.

    The control for ``saliency:how=border``.
    """
    rows, columns = observation.grid
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], -1)
    near = ((place[:, None] - place[None]).abs().sum(-1) <= 1).double()
    walk = AttentionChain(near / near.sum(-1, keepdim=True))
    return observation.map(walk.hitting_times(border(rows, columns)).values)


def _baseline(function: Callable[..., TokenMap], asks: Asks) -> Callable[..., TokenMap]:
    """The same with an observation and a query in front of the options."""
    names = inspect.signature(function).parameters

    def run(observation: Observation, query: Query, **options: Any) -> TokenMap:
        if "seed" in names:  # a random one
            options.setdefault("seed", query.random)
        target = {"nothing": None, "seed": query.seed, "class": query.label}[asks]
        return function(observation.model, observation.inputs, target, observation=observation, **options)

    run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return run


_BASELINES: dict[str, tuple[Asks, Callable[..., TokenMap]]] = {
    "raw_row": ("seed", baselines.raw_row),
    "column_sum": ("nothing", baselines.column_sum),
    "cls_row": ("nothing", baselines.cls_row),
    "dino_mass": ("nothing", baselines.dino_mass),
    "rollout": ("nothing", baselines.rollout),
    "attention_flow": ("nothing", baselines.attention_flow),
    "grad_cam": ("class", baselines.grad_cam),
    "pytorch_grad_cam": ("class", baselines.pytorch_grad_cam),
    "generic_relevance": ("class", baselines.generic_relevance),
    "transformer_attribution": ("class", baselines.transformer_attribution),
    "partial_lrp": ("class", baselines.partial_lrp),
    "tokencut": ("nothing", baselines.tokencut),
    "lost": ("nothing", baselines.lost),
    "deep_spectral": ("nothing", baselines.deep_spectral),
    "random": ("nothing", baselines.random_map),
    "centre_prior": ("nothing", baselines.centre_prior),
}
METHODS: Mapping[str, tuple[Asks, Callable[..., TokenMap]]] = {
    "bounce": ("seed", bounce),
    "cls_bounce": ("nothing", cls_bounce),
    "tokenrank": ("nothing", tokenrank),
    "saliency": ("nothing", saliency),
    "lattice": ("nothing", lattice),
    **{name: (asks, _baseline(function, asks)) for name, (asks, function) in _BASELINES.items()},
}
"""Name → what it asks for, and the function of an observation, a query and options."""


def _parse(text: str) -> Method:
    name, *parts = text.split(":")
    if name not in METHODS:
        raise NotFoundError(f"no method {name!r}; {nearest(name, METHODS)}")
    asks, function = METHODS[name]
    known = _options(function)
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"option {part!r} of method {name!r} is not name=value")
        if key not in known:
            raise NotFoundError(f"method {name!r} has no option {key!r}; {nearest(key, known)}")
        if key in options:
            raise InputError(f"method {text!r} has option {key!r} twice")
        options[key] = _value(value)

    def run(observation: Observation, query: Query) -> TokenMap:
        if asks == "seed" and query.seed is None:
            raise InputError(f"method {text!r} needs a seed on the object; use a protocol that gives one")
        return function(observation, query, **options)

    return Method(text, asks, run)


def _options(function: Callable[..., TokenMap]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "observation"}


def _value(text: str) -> Any:
    if text in ("yes", "no", "none"):
        return {"yes": True, "no": False, "none": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
