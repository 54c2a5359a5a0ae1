"""Blocks of a denoiser: layers of a forward call as chains over the picture and the words of the prompt.

In joint attention (FLUX, Stable Diffusion 3, Qwen-Image, Z-Image) a block is one square chain of picture and text
tokens. Where words are attended to by cross-attention (Stable Diffusion 1.5 and XL, PixArt) self- and cross-attention
of a block become one chain by ``tr.bipartite``: a walk over the picture that steps over to a word, and stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..chain import AttentionChain, CrossAttention, bipartite
from ..errors import CaptureError, InputError, LayoutError, NotFoundError
from ..layout import Grid, TokenLayout
from ..models.layouts.names import is_cross
from ..recording import AttentionRecord, Branch
from ..trace import Trace
from ..trace.one_input import TAKE_ONE, of_one_input
from ..trace.parts import seen_keys
from .texts import text_tokens, with_text

CROSSING = 0.1
"""Probability that a walk on the picture steps over to a word at a bounce."""

Strings = Sequence[str] | Callable[[int], Sequence[str] | None] | None
"""Strings of the text tokens, or a function of how many there are."""


@dataclass(frozen=True)
class Block:
    """A layer of a denoiser whose tokens are the picture, or picture and text.

    Attributes:
        name: of the block: of its square attention, or of the module that holds it and the cross-attention beside it.
        square: name of its self-attention or joint attention.
        cross: name of the cross-attention whose words join it; None in joint attention, and without words.
        count: tokens of the square attention.
        grid: (rows, columns) of the picture.
    """

    name: str
    square: str
    cross: str | None
    count: int
    grid: Grid


def is_denoiser(trace: Trace) -> bool:
    """Whether the forward calls of a trace were given timesteps."""
    return any(record.timestep is not None for record in trace.records)


def of_branch(trace: Trace, branch: Branch) -> tuple[Trace, bool]:
    """One branch of guidance, and whether there are any: a trace without is returned as it is.

    Raises:
        CaptureError: an empty trace. NotFoundError: there are branches, but not this one.
    """
    if not trace.records:
        raise CaptureError("the trace is empty; run the pipeline inside tr.capture")
    if not any(record.branches for record in trace.records):
        return trace, False
    return trace.select(branch=branch), True


def calls_of(trace: Trace, steps: Sequence[int] | int | None = None) -> list[int]:
    """Numbers of forward calls, each once, increasing.

    Args:
        trace: of one branch.
        steps: which, as they are numbered in the trace (negative from the last); all of them, where None.

    Raises:
        InputError: no such call, or none at all.
    """
    present = sorted({record.step for record in trace.records})
    if steps is None:
        return present
    wanted = [steps] if isinstance(steps, int) else list(steps)
    named = [present[step] if -len(present) <= step < 0 else step for step in wanted]
    missing = [step for step in named if step not in present]
    if missing or not named:
        raise InputError(f"steps = {wanted}, but the forward calls in this trace are {present}; take some of these")
    return sorted(set(named))


def blocks_of(trace: Trace, call: int, words: bool = True) -> dict[str, Block]:
    """Name → block, of all grids, in the model's order.

    Args:
        trace: of one branch.
        call: number of the forward call.
        words: join cross-attention to self-attention, and leave out what is over the picture alone where other blocks
            are over picture and text (the second attention of Stable Diffusion 3.5, the refiner of Z-Image); False for
            every square attention as it is.

    Raises:
        CaptureError: no attention of this call is over a picture. LayoutError: which tokens are it is unknown.
        InputError: a video.
    """
    records = {record.name: record for record in trace.records if record.step == call}
    found: dict[str, Block] = {}
    with_words: set[str] = set()
    problem: LayoutError | None = None
    for name, record in records.items():
        if not record.is_square or _attends_to_words(record):
            continue
        try:
            layout = trace.layout_of(record)
        except LayoutError as error:
            problem = problem or error
            continue
        if layout is None or not layout.grids:
            continue
        grid = next(iter(layout.grids.values()))
        if len(grid) == 3:
            raise InputError(
                f"{name!r} attends over a video of {' × '.join(map(str, grid))} patches, expected one picture; its "
                "numbers are those of tr.observe(trace).chain(…)"
            )
        joint = bool(text_tokens(layout))
        cross = None if joint or not words else _beside(name, record, records)
        block = name if cross is None else name.rpartition(".")[0] or name
        found[block] = Block(block, name, cross, record.shape[-1], grid)
        if joint and words:
            with_words.add(block)
    if not found:
        raise problem or CaptureError("no attention of this trace is over a picture; capture that of the denoiser")
    return {name: block for name, block in found.items() if name in with_words} if with_words else found


def block_chain(
    trace: Trace,
    call: int,
    block: Block,
    text: Strings = None,
    special: Sequence[int] = (),
    crossing: float = CROSSING,
) -> AttentionChain:
    """The chain of a block in a forward call, its words named.

    Args:
        trace: of one branch and one sample.
        call: number of the forward call.
        block: of ``blocks_of``.
        text: strings of the text tokens.
        special: which of the text tokens are no words, counted among these: begin, end, template, padding.
        crossing: probability of stepping over to a word at a bounce, where there is cross-attention.

    Returns:
        (heads, N, N) in joint attention; (1, N + M, N + M), heads averaged, where cross-attention is joined.

    Raises:
        NotFoundError: the block did not run in this call. CaptureError: several inputs. InputError: another number
        of strings than of text tokens. LayoutError: it is unknown which tokens are the picture.
    """
    record = record_of(trace, call, block.square)
    heads = of_one_input(trace.chain_of(record), None, record.name, TAKE_ONE)
    if heads.layout is None:
        raise LayoutError(f"it is unknown which tokens of {record.name!r} are the picture; give trace.layout")
    cross = cross_of(trace, call, block)
    if cross is None:
        seen, operator, layout = seen_keys(record), heads.operator, heads.layout
        unseen = [] if seen is None else sorted(set(range(heads.num_tokens)) - set(seen))
    else:
        to_words = cross.weights.flatten(0, -3).double().mean(0)
        joined = bipartite(heads.aggregate("uniform"), to_words, crossing)
        assert joined.layout is not None
        operator, layout = joined.operator.reshape(1), _beside_picture(joined.layout, heads.num_tokens, cross.columns)
        unseen = [heads.num_tokens + int(j) for j in (to_words.amax(0) == 0).nonzero()]
    places = text_tokens(layout)
    strings = text(len(places)) if callable(text) else text
    marked = [*unseen, *(places[i] for i in special)] if places else unseen
    return AttentionChain.from_operator(operator, with_text(layout, strings if places else None, marked))


def cross_of(trace: Trace, call: int, block: Block) -> CrossAttention | None:
    """The cross-attention of a block to the words, (*batch, heads, N, M); None in joint attention.

    Raises:
        NotFoundError: the block did not run in this call.
    """
    return None if block.cross is None else trace.cross_of(record_of(trace, call, block.cross))


def record_of(trace: Trace, call: int, name: str) -> AttentionRecord:
    """The record of an attention in a forward call.

    Raises:
        NotFoundError: it did not run there.
    """
    found = next((r for r in trace.records if r.step == call and r.name == name), None)
    if found is None:
        raise NotFoundError(f"{name!r} did not run in forward call {call}; choose other steps or layers")
    return found


def _beside_picture(joined: TokenLayout, patches: int, columns: TokenLayout | None) -> TokenLayout:
    """The layout of a picture and what it attends to, with the spans and the strings that the latter has."""
    if columns is None:
        return joined
    spans = {name: count for name, count in joined.spans.items() if name != "text"} | dict(columns.spans)
    tokens = None if columns.tokens is None else ((joined.tokens or ("",) * patches)[:patches] + columns.tokens)
    return replace(joined, spans=spans, tokens=tokens)


def _beside(name: str, record: AttentionRecord, records: dict[str, AttentionRecord]) -> str | None:
    """The cross-attention of the block that a self-attention belongs to."""
    parent = name.rpartition(".")[0]
    for other, found in records.items():
        same = other != name and other.rpartition(".")[0] == parent
        if same and found.shape[-2] == record.shape[-1] and _attends_to_words(found):
            return other
    return None


def _attends_to_words(record: AttentionRecord) -> bool:
    columns = record.sides[1]
    return is_cross(record.name) and columns is not None and not columns.grids
