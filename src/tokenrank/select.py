"""Selection of a layer, its heads and its tokens: one grammar for tasks, baselines, protocols and commands."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .chain import AttentionChain, token_set
from .errors import InputError, LayoutError, NotFoundError, nearest
from .grammar import LAYER_HELP
from .layout import TokenLayout
from .models import Modality
from .recording import matches_name

Layer: TypeAlias = int | str | None
"""A layer's number (negative from the last), its name, the name of a module above it, a glob; None for the default:
``default_layer``, or ``SEED_LAYER`` where a method starts from a place."""

Layers: TypeAlias = "Layer | Sequence[int | str]"
"""One layer, several, or a glob that fits several."""

Heads: TypeAlias = Literal["lambda2", "uniform"] | int | Sequence[int]
"""How the heads of a layer become one chain: by |λ2|, evenly, one of them, or some of them evenly."""

Tokens: TypeAlias = "str | Sequence[int] | Sequence[str] | None"
"""Tokens that stay: "all", one or several spans, or indices; None for the patches of a picture, else "content"."""

HEADS: Heads = "lambda2"
"""The default everywhere but in methods whose definition says otherwise."""


SEED_LAYER = -1
"""The layer of methods that start from a place (``segment``, ``bounce``, ``raw_row``) or from CLS: the last.

In networks that learnt from pictures alone a seed is served better the higher the layer (docs/evidence.md).
"""


def default_layer(count: int, modality: Modality = "image") -> int:
    """The layer of a chain where none is named: three quarters up for pictures, the last for texts.

    Where attention arrives in the end (TokenRank, column sums) is the object three quarters up, not before and less
    after, in networks that learnt from pictures alone; it is the one default for chains, too, since a seed loses less
    there than TokenRank loses in the last layer. In networks that read captions (CLIP) the middle is the best for both
    (docs/evidence.md). Of few layers: 0 of one, 1 of two, 2 of three, 4 of six. What a sentence encoder needs in the
    end is the words that matter: measured on one (docs/text.md).
    """
    return min(count - 1, 3 * count // 4) if modality == "image" else count - 1


def layer_of(layer: Layer, names: Sequence[str], modality: Modality = "image") -> str:
    """The one of ``names`` that ``layer`` means; see ``default_layer`` for None.

    Raises:
        NotFoundError: none, or several; the message has the nearest names.
        InputError: neither a number nor a name.
    """
    if layer is None:
        return names[default_layer(len(names), modality)]
    fitting = _fitting(layer, names)
    if len(fitting) > 1:
        listed = ", ".join(map(repr, fitting[:3])) + (" …" if len(fitting) > 3 else "")
        raise NotFoundError(f"layer {layer!r} fits {len(fitting)} layers: {listed}; name one of them, or its number")
    return fitting[0]


def layers_of(layers: Layers, names: Sequence[str], modality: Modality = "image") -> tuple[str, ...]:
    """The names that ``layers`` means, each once, in the order given; a glob may mean several.

    Raises:
        NotFoundError: an entry means none. InputError: no entry, or one that is neither a number nor a name.
    """
    entries = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    if not entries:
        raise InputError("no layers given, expected one at least, or None for the default")
    parts = [(layer_of(None, names, modality),) if layer is None else _fitting(layer, names) for layer in entries]
    return tuple(dict.fromkeys(name for part in parts for name in part))


def checked_heads(heads: Any) -> str | int | tuple[int, ...]:
    """A choice of heads as plain values that can be compared: a word, a number, or several numbers.

    Raises:
        InputError: anything else; see ``Heads``.
    """
    if isinstance(heads, str):
        if heads in ("lambda2", "uniform"):
            return heads
        raise _no_heads(heads)
    number = whole_number(heads)
    if number is not None:
        return number
    try:
        numbers = [whole_number(head) for head in heads]
    except TypeError:
        raise _no_heads(heads) from None
    if not numbers or None in numbers:
        raise _no_heads(heads)
    return tuple(number for number in numbers if number is not None)


def head_weights(heads: Heads, lambda2: Tensor | None, count: int, layer: str) -> Tensor:
    """What each of ``count`` heads counts for, (heads,) in float64 on the CPU, sum one.

    Args:
        heads: see ``Heads``.
        lambda2: |λ2| of every head, for "lambda2"; where all are zero no head is slower than another, and they count
            the same.
        layer: its name, for errors.

    Raises:
        NotFoundError: no such head. InputError: anything else that is not of the grammar.
    """
    choice = checked_heads(heads)
    if isinstance(choice, str):
        if choice == "lambda2" and lambda2 is not None and bool((lambda2 > 0).any()):
            moduli = lambda2.double().cpu()
            return moduli / moduli.sum()
        return torch.full((count,), 1 / count, dtype=torch.float64)
    chosen = head_numbers(choice, count, layer)
    weights = torch.zeros(count, dtype=torch.float64)
    weights[chosen] = 1 / len(chosen)
    return weights


def head_numbers(heads: int | tuple[int, ...], count: int, layer: str) -> list[int]:
    """The heads 0 … count − 1 that a number or several mean.

    Raises:
        NotFoundError: no such head. InputError: one twice.
    """
    numbers = [heads] if isinstance(heads, int) else heads
    for number in numbers:
        if not -count <= number < count:
            raise NotFoundError(
                f"no head {number} in layer {layer!r}: it has {count}, expected a number from {-count} to {count - 1}"
            )
    chosen = [number % count for number in numbers]
    if len(set(chosen)) < len(chosen):
        raise InputError(f"heads = {list(numbers)} names a head twice, expected each once")
    return chosen


def mixed(chain: AttentionChain, heads: Heads, lambda2: Tensor | None = None, layer: str = "") -> AttentionChain:
    """One chain (N, N) of a layer's heads (heads, N, N), lazily.

    Args:
        chain: (heads, N, N).
        heads: see ``Heads``.
        lambda2: |λ2| of every head where it is known; computed where "lambda2" needs it.
        layer: its name, for errors.

    Raises:
        NotFoundError: no such head. InputError: another ``heads``.
    """
    count, choice = chain.batch[-1], checked_heads(heads)
    if not isinstance(choice, str):
        chosen = head_numbers(choice, count, layer)
        return chain[chosen[0]] if len(chosen) == 1 else chain[chosen].aggregate("uniform")
    if count == 1:
        return chain[0]
    if choice == "lambda2" and lambda2 is None:
        lambda2 = chain.lambda2(proved=False).values
    return chain.aggregate(head_weights(heads, lambda2, count, layer))


def tokens_of(tokens: Tokens, layout: TokenLayout | None, num_tokens: int, layer: str) -> tuple[int, ...] | None:
    """Indices of the tokens that stay, increasing; None for all of them.

    Args:
        tokens: see ``Tokens``; None is resolved before (a picture's span, or "all").
        layout: of the layer.
        num_tokens: N, CLS and registers included.
        layer: its name, for errors.

    Raises:
        NotFoundError: no such span. LayoutError: a span, where it is unknown which token is what.
        InputError: neither spans nor indices. ChainError: an index out of range, or none.
    """
    if isinstance(tokens, bool | float | slice):
        raise InputError(f"tokens = {tokens!r}, expected 'all', a span, several spans or indices of tokens")
    if tokens is None or (isinstance(tokens, str) and tokens == "all"):
        return None
    if isinstance(tokens, str):
        kept = set(_span(tokens, layout, num_tokens, layer))
    elif isinstance(tokens, Sequence) and tokens and all(isinstance(name, str) for name in tokens):
        kept = {i for name in tokens for i in _span(str(name), layout, num_tokens, layer)}
    else:
        kept = set(token_set(tokens, num_tokens, layout).nonzero()[:, 0].tolist())
    return None if len(kept) == num_tokens else tuple(sorted(kept))


def whole_number(value: Any) -> int | None:
    """``value`` as an int where it is a whole number (of NumPy, too) and no bool; otherwise None."""
    if isinstance(value, bool | str) or type(value).__name__ == "bool_":
        return None
    try:
        return index(value)
    except TypeError:
        return None


def _fitting(layer: int | str, names: Sequence[str]) -> tuple[str, ...]:
    count, number = len(names), whole_number(layer)
    if number is not None:
        if not -count <= number < count:
            raise NotFoundError(f"no layer {number}: there are {count}, expected a number from {-count} to {count - 1}")
        return (names[number],)
    if not isinstance(layer, str):
        raise InputError(f"layer = {layer!r}, expected {LAYER_HELP}")
    if layer in names:
        return (layer,)
    fitting = tuple(name for name in names if matches_name(layer, name))
    if not fitting:
        raise NotFoundError(f"no layer {layer!r}; {nearest(layer, names)}; or a number from 0 to {count - 1}")
    return fitting


def _span(name: str, layout: TokenLayout | None, num_tokens: int, layer: str) -> list[int]:
    if layout is None:
        raise LayoutError(
            f"tokens = {name!r}, but it is unknown which of the {num_tokens} tokens of {layer!r} are what; take "
            "tokens='all', or give the layout: tr.observe(…, layout=tr.TokenLayout(…))"
        )
    if name in ("special", "content") or name in layout.spans:
        return layout.indices(name)
    raise NotFoundError(f"no tokens {name!r} in layer {layer!r}; {nearest(name, [*layout.spans, 'all', 'content'])}")


def _no_heads(heads: object) -> InputError:
    return InputError(f"heads = {heads!r}, expected 'lambda2', 'uniform', the number of a head or a list of numbers")
