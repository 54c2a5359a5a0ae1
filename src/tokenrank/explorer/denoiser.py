"""Traces of denoisers: steps and layers of one branch, as chains over the picture and the words of the prompt.

``draft_of(trace, …)`` chooses which steps and layers fit into a page and makes their chains; nothing is stored here. In
joint attention (FLUX, Stable Diffusion 3, Qwen-Image, Z-Image) a layer is one square chain of picture and text tokens.
Where words are attended to by cross-attention (Stable Diffusion 1.5 and XL, PixArt) self- and cross-attention of a
block become one chain by ``tr.bipartite``: a walk over the picture that steps over to a word, and stays there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..chain import AttentionChain, bipartite
from ..errors import CaptureError, InputError, LayoutError, NotFoundError
from ..layout import TokenLayout
from ..models import ImageSource, read_image
from ..models.layouts.names import is_cross
from ..observation.layers import TAKE_ONE, of_one_input
from ..recording import AttentionRecord, Branch
from ..select import Layers, layers_of
from ..trace import Trace
from ..trace.parts import seen_keys
from .budget import CODE, LIMIT, HeadChoice, form_of, html_bytes
from .crop import MOST_BYTES, Seen, written
from .prompt import prompt_tokens, text_tokens, with_text
from .sheet import Draft, DraftLayer

CROSSING = 0.1
"""Probability that a walk on the picture steps over to a word at a bounce."""

MOST_LAYERS = 32
"""Layers, over all steps, that are chosen where none are named; numbers of each take Python a second or more."""

LARGEST = 1024
"""Patches up to which a grid of a U-Net is taken by default: 32 × 32, 2.4 MB a layer with 77 words."""

# bytes of the index: of a head, of a layer beside them, of a token in a layer's groups, of a token's string
INDEX_HEAD, INDEX_LAYER, INDEX_TOKEN, INDEX_STRING = 260, 3000, 7, 60


def is_denoiser(trace: Trace) -> bool:
    """Whether the forward calls of a trace were given timesteps."""
    return any(record.timestep is not None for record in trace.records)


def draft_of(
    trace: Trace,
    *,
    picture: ImageSource | None = None,
    layers: Layers = None,
    steps: Sequence[int] | int | None = None,
    branch: Branch = "conditional",
    words: bool = True,
    text: Sequence[str] | None = None,
    prompt: str | None = None,
    tokenizer: Any = None,
    heads: HeadChoice = None,
    small: bool = False,
    limit: int = LIMIT,
) -> Draft:
    """Steps and layers of a denoiser's trace, as many as fit into a page, as the sheet that is to be written.

    Args:
        trace: of one prompt; both branches of guidance may be in it.
        picture: the generated picture.
        layers: which, by name, glob or number among those of one grid; evenly spaced ones that fit, where None.
        steps: which forward calls, as they are numbered in the trace (negative from the last); evenly spaced ones that
            fit, where None.
        branch: of guidance, where there are branches.
        words: join cross-attention to self-attention, so that words are tokens; False for self-attention alone.
        text: strings of the text tokens.
        prompt, tokenizer: instead of ``text``; see ``prompt_tokens``.
        heads, small, limit: of the page, see ``tr.explore``; for what fits.

    Raises:
        CaptureError: no layer over the picture, or a batch of several.
        InputError: a video, layers of several grids, no such step, or strings that do not fit.
        NotFoundError: no such layer, or a layer that did not run in one of the steps.
    """
    if text is not None and prompt is not None:
        raise InputError("both text and prompt are given, expected one of them")
    if (prompt is None) != (tokenizer is None):
        raise InputError("prompt and tokenizer go together: prompt='a cat', tokenizer=pipe.tokenizer_2")
    part, notes = _of_branch(trace, branch)
    asked = _calls(part, steps)
    blocks, left = _blocks(part, asked[-1], words, layers)
    names = list(blocks) if layers is None else [n for n in blocks if n in layers_of(layers, list(blocks))]
    strings = _strings(text, prompt, tokenizer)
    example = _chain(part, asked[-1], blocks[names[0]], strings)
    room = min(MOST_LAYERS, _room(DraftLayer(names[0], 0, 0, example), heads, small, limit))
    calls, chosen = _evenly(asked, names, room, steps is None, layers is None)
    if (len(calls), len(chosen)) != (len(asked), len(names)):
        left.append(f"{len(calls)} of {len(asked)} steps and {len(chosen)} of {len(names)} layers, evenly spaced")
    if blocks[names[0]][1] is not None:
        left.append(f"self- and cross-attention joined, heads averaged; {CROSSING:.0%} of a bounce steps over to words")
    numbers = {name: number for number, name in enumerate(blocks)}
    made = [
        DraftLayer(name, numbers[name], place, _chain(part, call, blocks[name], strings))
        for place, call in enumerate(calls)
        for name in chosen
    ]
    layout = made[0].chain.layout
    assert layout is not None
    return Draft(
        ", ".join(["denoiser", *notes]),
        "both" if text_tokens(layout) else "picture",
        layout.num_tokens,
        layout,
        made,
        _seen(picture, layout, [*notes, *left]),
        [{"step": call, "timestep": _record(part, call, blocks[chosen[0]][0]).timestep} for call in calls],
    )


Block = tuple[str, str | None]  # self-attention, and the cross-attention beside it


def _of_branch(trace: Trace, branch: Branch) -> tuple[Trace, list[str]]:
    if not trace.records:
        raise CaptureError("the trace is empty; run the pipeline inside tr.capture")
    if not any(record.branches for record in trace.records):
        return trace, []
    return trace.select(branch=branch), [f"{branch} branch of guidance"]


def _calls(trace: Trace, steps: Sequence[int] | int | None) -> list[int]:
    present = sorted({record.step for record in trace.records})
    if steps is None:
        return present
    wanted = [steps] if isinstance(steps, int) else list(steps)
    named = [present[step] if -len(present) <= step < 0 else step for step in wanted]
    missing = [step for step in named if step not in present]
    if missing or not named:
        raise InputError(f"steps = {wanted}, but the forward calls in this trace are {present}; take some of these")
    return sorted(set(named))


def _blocks(trace: Trace, call: int, words: bool, layers: Layers) -> tuple[dict[str, Block], list[str]]:
    """Name → its self-attention and cross-attention, of the one grid that is shown; and what was left out."""
    records = {record.name: record for record in trace.records if record.step == call}
    found: dict[str, Block] = {}
    sizes: dict[str, tuple[int, tuple[int, ...]]] = {}
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
        cross = None if text_tokens(layout) or not words else _beside(name, record, records)
        block = name if cross is None else name.rpartition(".")[0] or name
        found[block], sizes[block] = (name, cross), (record.shape[-1], grid)
    if not found:
        raise problem or CaptureError("no attention of this trace is over a picture; capture that of the denoiser")
    named = [name for name in found if layers is None or name in layers_of(layers, list(found))]
    grids = Counter(sizes[name] for name in named)
    if layers is not None and len(grids) > 1:
        listed = ", ".join(f"{name} {' × '.join(map(str, sizes[name][1]))}" for name in named[:4])
        raise InputError(f"layers = {layers!r} have {len(grids)} grids ({listed}); name layers of one grid")
    shown = next(iter(grids)) if len(grids) == 1 else _usual(grids)
    kept = {name: block for name, block in found.items() if sizes[name] == shown}
    others = sorted({" × ".join(map(str, grid)) for _, grid in sizes.values() if grid != shown[1]})
    notes = [f"layers of {' × '.join(map(str, shown[1]))}, not of {', '.join(others)}"] if others else []
    return kept, notes


def _usual(grids: Counter[tuple[int, tuple[int, ...]]]) -> tuple[int, tuple[int, ...]]:
    """Of several grids the one of most layers in joint attention; of a U-Net the finest that is not too large."""
    if len({grid for _, grid in grids}) == 1:
        return max(grids, key=lambda size: (size[0], grids[size]))
    small = [size for size in grids if size[1][0] * size[1][1] <= LARGEST]
    return max(small) if small else min(grids)


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


def _record(trace: Trace, call: int, name: str) -> AttentionRecord:
    found = next((r for r in trace.records if r.step == call and r.name == name), None)
    if found is None:
        raise NotFoundError(f"{name!r} did not run in forward call {call}; choose other steps or layers")
    return found


Strings = Callable[[int], "list[str] | None"]


def _strings(text: Sequence[str] | None, prompt: str | None, tokenizer: Any) -> Strings:
    if prompt is not None:
        return lambda count: prompt_tokens(prompt, tokenizer, count)
    return lambda count: None if text is None else list(text)


def _chain(trace: Trace, call: int, block: Block, strings: Strings) -> AttentionChain:
    """The chain (heads, N, N) of a block in a forward call, its words named."""
    record = _record(trace, call, block[0])
    heads = of_one_input(trace.chain_of(record), None, record.name, TAKE_ONE)
    if heads.layout is None:
        raise LayoutError(f"it is unknown which tokens of {record.name!r} are the picture; give trace.layout")
    if block[1] is None:
        seen = seen_keys(record)
        unseen = () if seen is None else tuple(set(range(heads.num_tokens)) - set(seen))
        count = len(text_tokens(heads.layout))
        layout = with_text(heads.layout, strings(count) if count else None, unseen)
        return AttentionChain.from_operator(heads.operator, layout)
    cross = trace.cross_of(_record(trace, call, block[1]))
    to_words = cross.weights.flatten(0, -3).double().mean(0)
    joined = bipartite(heads.aggregate("uniform"), to_words, CROSSING)
    assert joined.layout is not None
    unseen = tuple(heads.num_tokens + int(j) for j in (to_words.amax(0) == 0).nonzero())
    layout = with_text(joined.layout, strings(to_words.shape[-1]), unseen)
    return AttentionChain.from_operator(joined.operator.reshape(1), layout)


def _room(layer: DraftLayer, heads: HeadChoice, small: bool, limit: int) -> int:
    """How many layers like this one fit into a page."""
    count, many = layer.chain.num_tokens, layer.chain.batch[-1]
    form = form_of(layer, heads, small)
    each = html_bytes(form.nbytes) + html_bytes(count * many) + INDEX_HEAD * many + INDEX_LAYER + INDEX_TOKEN * count
    rest = CODE + html_bytes(MOST_BYTES) + INDEX_STRING * count
    return max(1, (limit - rest) // each)


def _seen(picture: ImageSource | None, layout: TokenLayout, notes: list[str]) -> Seen | None:
    if picture is None:
        return None
    read = read_image(picture)
    rows, columns = layout.grids[layout.picture][-2:]
    return written(read, (columns, rows), "; ".join(["the generated picture", *notes]))


def _evenly(
    calls: list[int], names: list[str], room: int, choose_steps: bool, choose_layers: bool
) -> tuple[list[int], list[str]]:
    """As many steps and layers as there is room for, evenly spaced, the last of both among them."""
    count_steps, count_layers = len(calls), len(names)
    if choose_steps and choose_layers:
        count_steps = min(count_steps, max(1, round(room**0.5)))
        count_layers = min(count_layers, max(1, room // count_steps))
        count_steps = min(len(calls), max(1, room // count_layers))
    elif choose_steps:
        count_steps = min(count_steps, max(1, room // count_layers))
    elif choose_layers:
        count_layers = min(count_layers, max(1, room // count_steps))
    return _spaced(calls, count_steps), _spaced(names, count_layers)


def _spaced(values: list[Any], count: int) -> list[Any]:
    if count >= len(values):
        return values
    last = len(values) - 1
    return [values[last]] if count == 1 else [values[round(last * k / (count - 1))] for k in range(count)]
