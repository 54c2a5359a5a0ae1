"""Blocks of a source: layers of forward calls as chains over picture and text, and where each word is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ...chain import AttentionChain
from ...denoisers.words import word_tokens
from ...errors import InputError, LayoutError, NotFoundError
from ...layout import TokenLayout
from ...observation import Observation
from ...observation.denoised import Denoised
from ...reading import Source, observe
from ...select import Layers, layers_of, whole_number
from ...trace import Trace

if TYPE_CHECKING:
    from PIL.Image import Image

Calls: TypeAlias = "int | Sequence[int] | None"
ConceptSource: TypeAlias = "Source | Mapping[str, AttentionChain]"

ALONE = "the chain"  # the name of a layer that is given as a chain

CURE = (
    "observe the picture with a denoiser, tr.observe(picture, model=pipe, prompt='…'), or the trace of a generation, "
    "tr.observe(trace, model=pipe, prompt='…'); a chain of your own needs a layout with a picture and strings of its "
    "text tokens, tr.TokenLayout({'text': M, 'image': P}, {'image': (rows, columns)}, strings)"
)


@dataclass(frozen=True)
class Block:
    """A layer of a forward call.

    Attributes:
        name: of the layer.
        make: makes its chain (heads, N, N) over picture and text.
        layout: of that chain, with strings of the text tokens.
        word: the indices of all tokens of a word; raises NotFoundError where the prompt does not hold it.
        special: indices of begin, end, template and padding tokens.
    """

    name: str
    make: Callable[[], AttentionChain]
    layout: TokenLayout
    word: Callable[[str], tuple[int, ...]]
    special: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the picture."""
        rows, columns = self.layout.grids[self.layout.picture][-2:]
        return rows, columns

    @property
    def picture(self) -> list[int]:
        """Indices of the picture's tokens, row by row."""
        return self.layout.indices(self.layout.picture)


@dataclass(frozen=True)
class Blocks:
    """What concept maps are made from.

    Attributes:
        every: layers × calls, in that order of the model.
        picture: where it is known.
        name: of the source, in words, with layers and calls.
    """

    every: tuple[Block, ...]
    picture: Image | None
    name: str


def blocks_of(source: ConceptSource, layers: Layers = None, calls: Calls = None, **reading: Any) -> Blocks:
    """The blocks of a source.

    Args:
        source: a ``Denoised``; what ``tr.observe`` takes; a chain (heads, N, N) with a layout, or several by name.
        layers: names, globs or numbers of layers; all of them where None.
        calls: places of forward calls in ``Denoised.calls`` (negative from the last); all of them where None.
        **reading: of ``tr.observe``.

    Raises:
        InputError: a source without text, or without its strings; calls of a source that has one.
        NotFoundError: no such layer or call. LayoutError: it is unknown which tokens are the picture.
    """
    found: Any = source
    if not isinstance(source, AttentionChain | Denoised) and not is_chains(source):
        found = observe(cast("Source", source), **reading)
    elif reading:
        raise InputError(
            f"{', '.join(map(repr, reading))}, expected no option of tr.observe with {_kind(source)}, which is "
            "observed already; those of this are layers, calls, heads, refine, n, direction, cut, padding, alpha"
        )
    if isinstance(found, Denoised):
        return _of_denoised(found, layers, calls)
    if isinstance(found, Observation):
        named = {name: _later(found, name) for name in found.layers}
        picture, name = found.picture, found.name
    else:
        given = {ALONE: found} if isinstance(found, AttentionChain) else dict(found)
        named = {layer: _same(chain) for layer, chain in given.items()}
        picture = next((chain.picture for chain in given.values() if chain.picture is not None), None)
        name = found.caption if isinstance(found, AttentionChain) else ""
    places(calls, 1)
    names = list(named) if layers is None else list(layers_of(layers, list(named)))
    every = tuple(_checked(layer, named[layer]) for layer in names)
    return Blocks(every, picture, ", ".join(filter(None, [name, _layer_words(names)])))


def places(calls: Calls, count: int) -> list[int]:
    """Places 0 … count − 1 of the forward calls that are meant, each once.

    Raises:
        InputError: neither a number nor several, or none. NotFoundError: no such call.
    """
    if calls is None:
        return list(range(count))
    entries = [calls] if whole_number(calls) is not None else calls
    try:
        numbers = [whole_number(entry) for entry in entries]  # type: ignore[union-attr]
    except TypeError:
        numbers = [None]
    if not numbers or None in numbers:
        raise InputError(f"calls = {calls!r}, expected the place of a forward call or several, such as -1 or [0, 2]")
    for number in numbers:
        if number is not None and not -count <= number < count:
            raise NotFoundError(
                f"no call {number}: the source has {count} forward call{'s' * (count != 1)}, expected a place from "
                f"{-count} to {count - 1}"
            )
    return list(dict.fromkeys(number % count for number in numbers if number is not None))


def checked_words(words: str | Sequence[str]) -> tuple[str, ...]:
    """Words, each once.

    Raises:
        InputError: none, one that is no text, or one twice.
    """
    given = [words] if isinstance(words, str) else list(words) if isinstance(words, Sequence) else [words]
    if not given:
        raise InputError("no words given, expected one of the prompt at least: words=['cat', 'sofa']")
    for word in given:
        if not isinstance(word, str) or not word.strip():
            raise InputError(f"word {word!r}, expected a word of the prompt such as 'cat'")
    plain = [" ".join(word.split()).casefold() for word in given]
    twice = next((word for place, word in enumerate(given) if plain[place] in plain[:place]), None)
    if twice is not None:
        raise InputError(f"words = {given} names {twice!r} twice, expected each word once")
    return tuple(given)


def _of_denoised(source: Denoised, layers: Layers, calls: Calls) -> Blocks:
    names = list(source.blocks) if layers is None else list(layers_of(layers, list(source.blocks)))
    chosen = places(calls, len(source.calls))
    every = tuple(
        _checked(name, _block(source, name, call), partial(source.word, layer=name), source.special_in(name))
        for call in chosen
        for name in names
    )
    steps = f"call {source.calls[chosen[0]]}" if len(chosen) == 1 else f"{len(chosen)} of {len(source.calls)} calls"
    return Blocks(every, source.picture, f"{source.name}, {_layer_words(names)}, {steps}")


def _checked(
    name: str,
    make: Callable[[], AttentionChain],
    word: Callable[[str], tuple[int, ...]] | None = None,
    special: Sequence[int] = (),
) -> Block:
    chain = make()
    layout = chain.layout
    if layout is None:
        raise LayoutError(f"it is unknown which of the {chain.num_tokens} tokens of {name!r} are the picture; {CURE}")
    rest = set(range(layout.num_tokens)) - set(layout.indices(layout.picture))
    if not rest:
        raise InputError(f"{name!r} attends over a picture alone ({layout}), expected text beside it; {CURE}")
    if len(layout.grids[layout.picture]) != 2:
        raise InputError(f"{name!r} attends over a video ({layout}), expected one picture")
    if layout.tokens is None:
        raise InputError(f"the text tokens of {name!r} have no strings, expected one a token; {CURE}")
    marked = tuple(sorted({*layout.special, *special} - set(layout.indices(layout.picture))))
    return Block(name, make, layout, word or partial(_word, layout), marked)


def _word(layout: TokenLayout, word: str) -> tuple[int, ...]:
    """Indices of a word among the tokens that are no picture."""
    picture, strings = set(layout.indices(layout.picture)), layout.tokens or ()
    text = [token for token in range(layout.num_tokens) if token not in picture]
    special = [place for place, token in enumerate(text) if token in layout.special]
    found = word_tokens([strings[token] for token in text], word, special=special)
    return tuple(text[place] for place in found)


def is_chains(source: Any) -> bool:
    """Whether a source is several chains by name; a trace is not."""
    if isinstance(source, Trace):
        return False
    return isinstance(source, Mapping) and bool(source) and all(isinstance(c, AttentionChain) for c in source.values())


def _kind(source: Any) -> str:
    return "chains" if isinstance(source, Mapping) else f"a {type(source).__name__}"


def _later(observation: Observation, name: str) -> Callable[[], AttentionChain]:
    return lambda: observation.head_chains(name, "all")


def _block(source: Denoised, name: str, call: int) -> Callable[[], AttentionChain]:
    return lambda: source.block(name, call)


def _same(chain: AttentionChain) -> Callable[[], AttentionChain]:
    if len(chain.batch) == 1:
        return lambda: chain
    if chain.batch.numel() != 1:
        raise InputError(f"a chain of shape {tuple(chain.shape)}, expected (heads, N, N) or (N, N); index the batch")
    one = AttentionChain.from_operator(chain.operator.reshape(1), chain.layout, chain.picture, chain.caption)
    return lambda: one


def _layer_words(names: Sequence[str]) -> str:
    return "" if names == [ALONE] else f"layer {names[0]}" if len(names) == 1 else f"{len(names)} layers"
