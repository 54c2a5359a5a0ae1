"""What a denoiser attended to: several forward calls of one branch, as chains over the picture and the words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import PIL.Image
import torch

from ..chain import AttentionChain, CrossAttention
from ..denoisers.blocks import Block, block_chain, blocks_of, calls_of, cross_of, of_branch, record_of
from ..denoisers.pipeline import denoiser_of
from ..denoisers.prompt import PromptTokens, prompt_of
from ..denoisers.streams import ExtraWords, encode_words, values_of, with_words
from ..denoisers.texts import text_tokens, with_text
from ..denoisers.widened import SPAN as WORDS
from ..denoisers.words import checked
from ..errors import InputError, LayoutError, NotFoundError
from ..layout import LayoutChoice
from ..progress import doing
from ..recording import AttentionStates, Branch, keeping_states
from ..select import layer_of
from ..trace import Trace
from ..trace.one_input import TAKE_ONE
from .layers import Seen, square_chains
from .observation import Observation


@dataclass(frozen=True)
class Ran:
    """Forward calls of a denoiser that were made.

    Attributes:
        trace: of all of them, with both branches of guidance where these ran.
        output: what the last call returned; None where it is not known.
        inputs: number of the forward call → its arguments by name; empty where they are not known.
        denoiser: the module; None where it is not known.
    """

    trace: Trace
    output: Any = None
    inputs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    denoiser: Any = None


@dataclass(frozen=True)
class _Added:
    """Words outside of the prompt.

    Attributes:
        before: the calls without them.
        words: as the text encoders have them.
        together: whether they attend to each other.
    """

    before: Denoised
    words: ExtraWords
    together: bool


class Denoised(Observation):
    """What one branch of a denoiser attended to in one or several forward calls; made by ``tr.observe``.

    The calls are steps of a generation, or noise samples of a real picture. As an ``Observation`` it is its last call,
    so that ``chain``, ``lambda2`` and every task and baseline of a picture work on it; ``block`` adds the words.

    Args:
        ran: makes the forward calls, when something is first asked, or returns those of before.
        name: of the pipeline, for captions.
        pipeline: of diffusers; None where a trace alone is known.
        prompt: what the pipeline was given; that of the text encoder whose positions the denoiser uses.
        picture: what was looked at or made.
        branch: of guidance, where there are branches.
        layout_choice: the layout that was given by hand.
    """

    def __init__(
        self,
        ran: Callable[[], Ran],
        name: str,
        *,
        pipeline: Any = None,
        prompt: str | None = None,
        picture: PIL.Image.Image | None = None,
        branch: Branch = "conditional",
        layout_choice: LayoutChoice = None,
    ) -> None:
        super().__init__(None, name, picture=picture, layout_choice=layout_choice)
        self._run_calls, self.pipeline, self.prompt, self.branch = ran, pipeline, prompt, branch
        self._added: _Added | None = None

    @cached_property
    def _made(self) -> Ran:
        return self._run_calls()

    @property
    def ran(self) -> Ran:
        """The forward calls as they were made: trace, inputs and the module, for methods that run them again."""
        return self._made

    @cached_property
    def every_call(self) -> Trace:
        """The records of all calls, of one branch of guidance; ``trace`` holds those of the last call."""
        return of_branch(self._made.trace, self.branch)[0]

    @cached_property
    def _ran(self) -> tuple[Trace, Any]:
        return self.every_call.select(step=self.calls[-1]), self._made.output

    @cached_property
    def _chains(self) -> Seen:
        """As of any observation; in joint attention with the words of the prompt, so that text can be asked for."""
        chains, skipped = square_chains(self.trace, None, "image", TAKE_ONE)
        known = self.prompt_tokens
        if known is None:
            return chains, skipped
        joint = {block.square for block in self._blocks.values() if block.cross is None}
        special = (*known.special, *known.padding)
        return {n: _named(c, known.tokens, special) if n in joint else c for n, c in chains.items()}, skipped

    @cached_property
    def _states(self) -> list[AttentionStates]:
        """Values and block outputs of the last call, by that call once more."""
        call, denoiser = self.calls[-1], self._made.denoiser
        if denoiser is None or call not in self._made.inputs:
            raise InputError(
                f"values and block outputs need another forward call, whose arguments are not known of {self.name}; "
                "observe a picture with the pipeline, tr.observe(picture, model=pipe, prompt=…), or take what='k', 'q'"
            )
        with doing("running the model for its block outputs"), keeping_states(denoiser) as kept, torch.no_grad():
            denoiser(**self._made.inputs[call])
        return kept

    @property
    def calls(self) -> tuple[int, ...]:
        """Numbers of the forward calls in the trace, in order; 0, 1, … of noise samples."""
        return tuple(calls_of(self.every_call))

    @property
    def timesteps(self) -> tuple[float | None, ...]:
        """What the denoiser was given as the time of each of ``calls``."""
        times = {record.step: record.timestep for record in self.every_call.records}
        return tuple(times[call] for call in self.calls)

    @cached_property
    def _blocks(self) -> Mapping[str, Block]:
        return blocks_of(self.every_call, self.calls[-1])

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the layers that ``block`` takes, in order.

        In joint attention those whose tokens are picture and text; otherwise the modules that hold a self-attention
        over the picture and the cross-attention beside it, of every grid. Where no layer knows of a text, all of them.
        """
        return tuple(self._blocks)

    def block(self, layer: int | str, call: int = -1) -> AttentionChain:
        """A layer over picture and text, (heads, N, N), layout with spans "image" and "text" and the token strings.

        In joint attention the layer as it ran, nothing N × N materialised. Of families with cross-attention the chain
        of ``tr.bipartite``, heads averaged, (1, N + M, N + M): a walk over the picture that steps over to words.

        Args:
            layer: of ``blocks``: a name, a glob of one, or a number (negative from the last).
            call: place in ``calls``, negative from the last.

        Raises:
            NotFoundError: no such layer or call. LayoutError: it is unknown which tokens are the picture.
        """
        name, number = self._block_name(layer), self._call(call)
        return self.keep(("block", name, number), lambda: self._block(name, number))

    def _block(self, name: str, number: int) -> AttentionChain:
        known = self.prompt_tokens
        strings, unseen = ((), ()) if known is None else (known.tokens, (*known.special, *known.padding))
        made = block_chain(self.every_call, number, self._blocks[name], strings or None, unseen)
        caption = f"{self.name}, {name}, call {number}"
        return AttentionChain.from_operator(made.operator, made.layout, self.picture, caption)

    def cross(self, layer: int | str, call: int = -1) -> CrossAttention | None:  # type: ignore[override]
        """Cross-attention of a block from the patches to the words, (1, heads, N, M); None in joint attention.

        Args:
            layer, call: as for ``block``.
        """
        return cross_of(self.every_call, self._call(call), self._blocks[self._block_name(layer)])

    @cached_property
    def prompt_tokens(self) -> PromptTokens | None:
        """The text tokens that the denoiser was given, in their order; None without a prompt and its pipeline."""
        if self.prompt is None or self.pipeline is None:
            return None
        return prompt_of(self.pipeline, self.prompt, self._text_count)

    @property
    def _text_count(self) -> int:
        return len(self._places(self.blocks[0]))

    def text(self, layer: int | str | None = None) -> tuple[int, ...]:
        """Indices of the text tokens of the prompt among the tokens of a block.

        Args:
            layer: of ``blocks``; None where they have the same place in all.

        Raises:
            LayoutError: no layer is named, and the text has another place in some.
        """
        return self._same_places(layer, None)

    def _same_places(self, layer: int | str | None, span: str | None) -> tuple[int, ...]:
        names = self.blocks if layer is None else (self._block_name(layer),)
        places = {self._places(name, span) for name in names}
        if len(places) > 1:
            raise LayoutError(
                f"the text stands at other places in some of {len(names)} blocks, whose grids differ; name one of them "
                f"(layer=…), such as {names[0]!r}"
            )
        return places.pop()

    def _places(self, name: str, span: str | None = None) -> tuple[int, ...]:
        """Indices of the text of the prompt, or of another span, among the tokens of a block."""
        block = self._blocks[name]
        own = record_of(self.every_call, self.calls[-1], block.square if block.cross is None else block.cross)
        layout = self.every_call.layout_of(own) if block.cross is None else own.sides[1]
        first = 0 if block.cross is None else block.count
        if layout is None:
            return ()
        found = text_tokens(layout) if span is None else layout.indices(span) if span in layout.spans else ()
        return tuple(first + place for place in found)

    def word(self, word: str, layer: int | str | None = None) -> tuple[int, ...]:
        """Indices of all tokens of a word of the prompt among the tokens of ``block``.

        Args:
            word: a word or phrase of the prompt, or one that ``with_words`` added.
            layer: of ``blocks``; None where the text has the same place in all.

        Raises:
            NotFoundError: the prompt does not hold it; the message names near words.
            InputError: the prompt or its pipeline is not known.
        """
        if self._added is not None and checked(word) in self._added.words.places:
            added = self._same_places(layer, WORDS)
            return tuple(added[place] for place in self._added.words.places[word])
        known = self.prompt_tokens
        if known is None:
            raise InputError(
                "which token is which word is unknown: the trace alone holds none; give prompt and pipeline, "
                "tr.observe(trace, prompt=…, model=pipe)"
            )
        text = self.text(layer)
        return tuple(text[place] for place in known.word(word))

    def padding_in(self, layer: int | str | None = None) -> tuple[int, ...]:
        """Indices of the text tokens that fill up the prompt, among the tokens of a block; see ``text``."""
        known, text = self.prompt_tokens, self.text(layer)
        own = () if known is None else tuple(text[place] for place in known.padding)
        return tuple(sorted({*own, *self._same_places(layer, "text_padding")}))

    def special_in(self, layer: int | str | None = None) -> tuple[int, ...]:
        """Indices of the text tokens that are no words, padding among them, among the tokens of a block."""
        known, text = self.prompt_tokens, self.text(layer)
        own = () if known is None else tuple(text[place] for place in known.special)
        return tuple(sorted({*own, *self.padding_in(layer)}))

    @property
    def padding(self) -> tuple[int, ...]:
        """``padding_in`` of all blocks.

        Raises:
            LayoutError: the blocks have several grids.
        """
        return self.padding_in()

    @property
    def special(self) -> tuple[int, ...]:
        """``special_in`` of all blocks; raises as ``padding``."""
        return self.special_in()

    def with_words(self, words: Sequence[str], together: bool = True) -> Denoised:
        """The same calls with words that the prompt does not hold, as text of their own that the picture never sees.

        Args:
            words: words or phrases.
            together: whether they attend to each other; see ``tokenrank.denoisers.streams``.

        Raises:
            InputError: no pipeline, or the arguments of the forward calls are not known.
        """
        if self.pipeline is None or not self._made.inputs:
            raise InputError(
                "words outside of the prompt need the pipeline and the arguments of its forward calls; observe a "
                "picture with it, tr.observe(picture, model=pipe, prompt=…), or keep them beside the trace: "
                "with tokenrank.denoisers.streams.inputs_of(pipe.transformer) as calls, and "
                "tr.observe(trace, model=pipe, prompt=…, inputs=calls)"
            )
        made, extra = self._made, encode_words(self.pipeline, words, length=self._text_count)
        trace = with_words(made.trace, denoiser_of(self.pipeline), made.inputs, extra, together)
        widened = Denoised(
            lambda: replace(made, trace=trace),
            self.name,
            pipeline=self.pipeline,
            prompt=self.prompt,
            picture=self.picture,
            branch=self.branch,
            layout_choice=self.layout_choice,
        )
        widened._added = _Added(self, extra, together)
        return widened

    @property
    def without_words(self) -> Denoised:
        """The calls without the words that ``with_words`` added; itself where there are none."""
        return self if self._added is None else self._added.before

    def values(self, call: int = -1) -> Mapping[str, torch.Tensor]:
        """Values of every fused attention of a call, (samples, heads, N, d), by module; one or two more forward calls.

        Args:
            call: place in ``calls``, negative from the last.

        Raises:
            NotFoundError: no such call. InputError: no pipeline, or the call's arguments are not known.
        """
        number, made, added = self._call(call), self._made, self._added
        if self.pipeline is None or number not in made.inputs:
            raise InputError(
                "values of attention need another forward of the denoiser, whose inputs are not known here; observe a "
                "picture with its pipeline: tr.observe(picture, model=pipe, prompt='a cat and a dog')"
            )
        denoiser, given = denoiser_of(self.pipeline), made.inputs[number]
        with doing("running the model for its values"):
            if added is None:
                return values_of(denoiser, given)
            return values_of(denoiser, given, added.words, added.together)

    def _block_name(self, layer: int | str) -> str:
        return layer_of(layer, self.blocks)

    def _call(self, call: int) -> int:
        calls = self.calls
        if not -len(calls) <= call < len(calls):
            raise NotFoundError(f"call {call} of {len(calls)}, expected {-len(calls)} … {len(calls) - 1}")
        return calls[call]

    def __repr__(self) -> str:
        if "_made" not in self.__dict__:
            return f"Denoised({self.name!r}, not run yet)"
        count = len(self.calls)
        told = "" if self.prompt is None else f", {self.prompt!r}"
        return f"Denoised({self.name!r}{told}, {count} call{'s' * (count > 1)}, {len(self.blocks)} blocks)"


def _named(chain: AttentionChain, strings: Sequence[str], special: Sequence[int]) -> AttentionChain:
    """A chain with the strings of its text tokens, some of which are no words."""
    assert chain.layout is not None
    places = text_tokens(chain.layout)
    layout = with_text(chain.layout, strings, [places[i] for i in special])
    return AttentionChain.from_operator(chain.operator, layout)
