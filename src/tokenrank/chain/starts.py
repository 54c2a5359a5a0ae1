"""Where a walk begins: tokens, points, words, masks and weights as a distribution."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import ChainError, LayoutError, NotFoundError, nearest
from ..layout import Moment, Point, TokenLayout

Place: TypeAlias = "int | str | Point | Moment"

TokenSet: TypeAlias = "Place | Sequence[int] | Sequence[str | Point | Moment] | Tensor | np.ndarray"
"""Some of the tokens; see ``token_set``."""

Start: TypeAlias = "TokenSet | Mapping[Place, float]"
"""Where a walk begins, or what ``personalization`` jumps to; see ``start_distribution`` for how each is read."""

SHOWN = 6  # entries of a list that an error repeats
LONGEST = 80  # letters of anything else

_SET = (
    "a token index, a list of them, a bool mask, tr.at(x, y) or tr.at(seconds=…), a span's name or a word, or "
    "a list of names"
)
_START = f"{_SET}, float weights or {{token: weight}}"


def start_distribution(start: Start, shape: torch.Size, layout: TokenLayout | None, name: str = "start") -> Tensor:
    """A distribution over tokens, (*batch, N) in float64, for chains of shape (*batch, N, N).

    Args:
        start: one of

            - a place: a token index (negative from the end), a point of the picture (``tr.at(x, y)``), a moment
              of the sound (``tr.at(seconds=…)``), a span's name, a word; several tokens share the start evenly;
            - several points, spans or words, no token of which is named twice; their tokens share the start evenly;
            - several token indices, each once and fewer than N of them, or a ``range``; they share the start evenly;
            - a bool mask (…, N), whose tokens share it evenly;
            - weights (…, N) of floats, of any scale: ≥ 0, finite, not all zero; they are divided by their sum. Whole
              numbers of a float type are weights, too;
            - ``{place: weight}``, as networkx takes it; a place of several tokens spreads its weight evenly over them.
              Weights of places that overlap add up; two keys for the same tokens are refused.

            N whole numbers could be token indices or weights, and a repeated index one token or twice its weight:
            such a start is refused. [0, 0, 1] of three tokens are tokens 0 and 1, or all weight on token 2; write
            {0: 1, 1: 1} or [0.0, 0.0, 1.0].
        name: what the argument is called, for errors.

    Raises:
        ChainError: index out of range, empty mask, weights that cannot be normalised, wrong number of tokens, whole
            numbers that can be read in two ways.
        NotFoundError: no span or word of that name. LayoutError: no layout to find it in.
    """
    batch, n = shape[:-2], shape[-1]
    if isinstance(start, Mapping):
        return _weights(_of_mapping(start, n, layout, name), batch, name)
    places = _places(start)
    if places is not None:
        return _on_tokens(_tokens_of(places, n, layout, name), n, batch, name)
    given = _as_tensor(start, name, _START)
    if given.dtype == torch.bool:
        return _even(_checked_width(given, n, name), batch, name)
    if given.is_floating_point():
        return _weights(_checked_width(given, n, name), batch, name)
    if given.numel() > 1 and not isinstance(start, range):
        _refuse_two_readings(given, n, name)
    if given.ndim > 1:
        raise ChainError(
            f"{name} = {_shown(given)} has token indices in rows, which can be read in two ways: as one start on all "
            "of these tokens, or as one for each row. For one give them flat; several, where they can be taken, are a "
            "list of lists, [[0], [3, 4]], or a mask (k, N)"
        )
    return _on_tokens(token_indices(_numbers(start), n), n, batch, name, given.device)


def token_set(tokens: TokenSet, n: int, layout: TokenLayout | None, name: str = "tokens") -> Tensor:
    """Tokens as a bool mask (N,), for questions about a set of them, such as which to keep or to hit.

    Args:
        tokens: as a start, without its weights: a place, a bool mask, or token indices, each once, of which there may
            be N. Of float weights those tokens that have some.
        name: what the argument is called, for errors.

    Raises:
        ChainError, NotFoundError, LayoutError: as ``start_distribution``.
    """
    single = torch.Size((n, n))
    if isinstance(tokens, Mapping):
        raise ChainError(f"{name} = {_shown(tokens)}, expected a set of tokens: leave the weights out, [*{name}]")
    if _places(tokens) is not None:
        return start_distribution(tokens, single, layout, name) > 0
    given = _as_tensor(tokens, name, _SET)
    if given.dtype == torch.bool or given.is_floating_point():
        return start_distribution(given, single, layout, name) > 0
    indices = token_indices(_numbers(tokens), n)
    token, times = _most_named(indices)
    if times > 1:
        raise ChainError(
            f"{name} = {_listed(given.reshape(-1).tolist())} names token {token} {times} times, expected each index "
            "once; a mask of zeros and ones is given as bool"
        )
    return _mask(indices, n, given.device)


def token_indices(tokens: Sequence[int], n: int) -> list[int]:
    """Indices 0 … n−1; negative ones count from the end.

    Raises:
        ChainError: no tokens, or one out of range.
    """
    if not len(tokens):
        raise ChainError("no tokens given, expected at least one index")
    for token in tokens:
        if not -n <= token < n:
            raise ChainError(f"token {token} of a chain of {n} tokens, expected an index from {-n} to {n - 1}")
    return [token % n for token in tokens]


def _numbers(given: Any) -> list[int]:
    """Whole numbers in a row, by way of a device only where they are there."""
    numbers = given if isinstance(given, Tensor) else np.asarray(given)
    return cast("list[int]", numbers.reshape(-1).tolist())


def _as_tensor(start: Any, name: str, expected: str) -> Tensor:
    try:
        given = start if isinstance(start, Tensor) else torch.as_tensor(np.asarray(start))
    except (TypeError, ValueError):
        given = None
    if given is None or given.is_complex():
        raise ChainError(f"{name} = {_shown(start)}, expected {expected}")
    if not given.numel():
        raise ChainError(f"no tokens given as {name}, expected at least one index")
    if given.ndim == 0 and (given.dtype == torch.bool or given.is_floating_point()):
        raise ChainError(f"{name} = {_shown(start)} is neither a token nor weights, expected {expected}")
    return given


def _shown(given: Any) -> str:
    """What was given, in a line: of arrays the shape, the type and the first numbers."""
    if isinstance(given, Tensor | np.ndarray) and given.ndim:
        first = ", ".join(str(x) for x in given.reshape(-1)[:SHOWN].tolist())
        more = ", …" if math.prod(given.shape) > SHOWN else ""
        return f"[{first}{more}] (shape {tuple(given.shape)}, {given.dtype})"
    text = repr(given.item() if isinstance(given, Tensor | np.generic | np.ndarray) else given)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({type(given).__name__})"


def _refuse_two_readings(given: Tensor, n: int, name: str) -> None:
    """Raise for whole numbers that are token indices or weights, whichever one likes."""
    numbers = given.reshape(-1).tolist()
    if given.shape[-1] == n:
        inside = all(-n <= token < n for token in numbers)
        tokens = _listed(sorted({token % n for token in numbers})) if inside else "of these numbers"
        raise ChainError(
            f"{name} = {_listed(numbers)} has {n} whole numbers for {n} tokens, which can be read in two ways: as the "
            f"tokens {tokens}, evenly, or as weights, one a token. For weights give floats, [{float(numbers[0])}, …] "
            f"or torch.tensor({name}, dtype=torch.float64); for tokens {{{numbers[0]}: 1, …}} or a bool mask"
        )
    token, times = _most_named(token_indices(numbers, n))
    if times > 1:
        raise ChainError(
            f"{name} = {_listed(numbers)} names token {token} {times} times: one token like the others, or one of "
            f"{times} times their weight? Name each token once, or give weights: {{{token}: {times}, …}}"
        )


def _most_named(indices: Sequence[int]) -> tuple[int, int]:
    """The token that is named most often, and how often."""
    return Counter(indices).most_common(1)[0]


def _listed(numbers: Sequence[int]) -> str:
    more = f", … {len(numbers)} in all" if len(numbers) > SHOWN else ""
    return f"[{', '.join(map(str, numbers[:SHOWN]))}{more}]"


def _of_mapping(start: Mapping[Any, Any], n: int, layout: TokenLayout | None, name: str) -> Tensor:
    """Weights (N,) of {place: weight}."""
    if not start:
        raise ChainError(f"{name} = {{}} names no token, expected {{token: weight}} with one at least")
    weights = [_weight(place, weight, name) for place, weight in start.items()]
    largest = max(weights) or 1.0  # divided out first, so that huge weights do not add up to infinity
    total = torch.zeros(n, dtype=torch.float64)
    named: dict[tuple[int, ...], Any] = {}
    for place, weight in zip(start, weights, strict=True):
        if not isinstance(place, Point | Moment | str | int | np.integer | tuple | range):
            raise ChainError(
                f"key {_shown(place)} of {name}, expected a token index, tr.at(x, y), tr.at(seconds=…), a span's name "
                "or a word"
            )
        share = start_distribution(cast("TokenSet", place), torch.Size((n, n)), layout, f"key of {name}")
        tokens = tuple(share.nonzero()[:, 0].tolist())
        if tokens in named:
            whom = f"token {tokens[0]}" if len(tokens) == 1 else f"the same {len(tokens)} tokens"
            raise ChainError(
                f"{name} names {whom} twice, as {named[tokens]!r} and {place!r}, expected each once: one weight, or "
                "their sum?"
            )
        named[tokens] = place
        total += share * (weight / largest)
    return total


def _weight(place: Any, weight: Any, name: str) -> float:
    try:
        value = float(weight)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ChainError(f"weight {_shown(weight)} of {_shown(place)} in {name}, expected a finite number ≥ 0")
    return value


def _places(start: Any) -> list[Point | Moment | str] | None:
    """The points, moments, spans and words that were given, one or several; None where it is something else."""
    if isinstance(start, Point | Moment | str):
        return [start]
    if isinstance(start, np.ndarray) and start.dtype.kind == "U":
        start = start.reshape(-1).tolist()
    if isinstance(start, Sequence) and len(start) and all(isinstance(place, Point | Moment | str) for place in start):
        return list(start)
    return None


def _tokens_of(places: Sequence[Point | Moment | str], n: int, layout: TokenLayout | None, name: str) -> list[int]:
    """Their tokens, none of which two of them have."""
    found: dict[int, Point | Moment | str] = {}
    for place in places:
        for token in token_indices(_tokens_in(place, layout, name), n):
            if token in found:
                raise ChainError(
                    f"{name} = {_shown(list(places))} names token {token} twice, in {found[token]!r} and in {place!r}, "
                    "expected each token once: leave one of them out"
                )
            found[token] = place
    return list(found)


def _tokens_in(start: Point | Moment | str, layout: TokenLayout | None, name: str) -> list[int]:
    if layout is None:
        raise LayoutError(
            f"{name} = {start!r} needs to know which token is what, and this chain has no layout; pass "
            "layout=tr.TokenLayout(...), or give a token index"
        )
    if isinstance(start, Point | Moment):
        return [layout.token_at(start)]
    if start in layout.spans:
        return layout.indices(start)
    if layout.tokens is None:
        raise NotFoundError(f"no span {start!r} in this layout; {nearest(start, layout.spans)}")
    return _word(start, layout.tokens)


def _word(word: str, tokens: Sequence[str]) -> list[int]:
    """The one run of tokens that spells ``word``, spaces and sub-word marks aside."""
    target = _plain(word)
    plain = [_plain(token) for token in tokens]
    found = []
    for begin in range(len(plain)):
        text, end = "", begin
        while end < len(plain) and len(text) < len(target):
            text += plain[end]
            end += 1
        if target and text == target and plain[begin]:
            found.append(list(range(begin, end)))
    if not found:
        raise NotFoundError(f"no word {word!r} among the tokens; {nearest(target, dict.fromkeys(filter(None, plain)))}")
    if len(found) > 1:
        where = ", ".join(str(run[0]) for run in found)
        raise LayoutError(f"word {word!r} occurs {len(found)} times, at tokens {where}; give one of the indices")
    return found[0]


def _plain(token: str) -> str:
    for mark in ("Ġ", "▁", "##", "</w>"):
        token = token.replace(mark, "")
    return token.replace(" ", "").casefold()


def _mask(tokens: Sequence[int], n: int, device: torch.device | None = None) -> Tensor:
    mask = torch.zeros(n, dtype=torch.bool, device=device)
    mask[list(tokens)] = True
    return mask


def _checked_width(given: Tensor, n: int, name: str) -> Tensor:
    if given.ndim == 0 or given.shape[-1] != n:
        raise ChainError(f"{name} has shape {tuple(given.shape)}, expected (…, {n}): one entry a token")
    return given


def _even(mask: Tensor, batch: torch.Size, name: str) -> Tensor:
    counts = mask.sum(-1, keepdim=True)
    if not counts.all():
        raise ChainError(f"the mask given as {name} selects no token, expected at least one")
    return _expanded(mask.double() / counts, batch, name)


def _on_tokens(
    tokens: Sequence[int], n: int, batch: torch.Size, name: str, device: torch.device | None = None
) -> Tensor:
    """Evenly on one token at least: nothing is left to be looked at."""
    mask = _mask(tokens, n, device).double()
    return _expanded(mask / mask.sum(-1, keepdim=True), batch, name)


def _weights(start: Tensor, batch: torch.Size, name: str) -> Tensor:
    """Weights (…, N) of any scale, divided by their sum."""
    start = start.detach().double()
    wrong, largest = ~(torch.isfinite(start) & (start >= 0)), start.amax(-1, keepdim=True)
    if not bool((largest > 0).all() & ~wrong.any()):  # one look, which a device is waited for
        if bool(wrong.any()):
            place = wrong.nonzero()[0].tolist()
            raise ChainError(
                f"weight {start[tuple(place)].item():.6g} of token {place[-1]} in {name}, expected finite weights ≥ 0; "
                "logits become weights by softmax"
            )
        raise ChainError(f"all weights of {name} are zero, expected one above 0")
    # the largest becomes 1 first: sums of huge or tiny weights neither overflow nor vanish
    scaled = start / largest
    return _expanded(scaled / scaled.sum(-1, keepdim=True), batch, name)


def moved(start: Tensor, device: torch.device) -> Tensor:
    """The same on the device of the chain; nothing is asked for where it is there."""
    return start if start.device == device else start.to(device)


def _expanded(start: Tensor, batch: torch.Size, name: str) -> Tensor:
    try:
        return start.expand(*batch, -1)
    except RuntimeError:
        raise ChainError(
            f"{name} has leading dimensions {tuple(start.shape[:-1])}, expected ones that broadcast to {tuple(batch)}"
        ) from None
