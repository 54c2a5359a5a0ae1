"""Traces of denoisers: which steps and layers of one branch fit into a page.

``draft_of(trace, …)`` chooses them and makes their chains (``denoisers.blocks``); nothing is stored here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..denoisers.blocks import CROSSING, Block, block_chain, blocks_of, calls_of, of_branch, record_of
from ..denoisers.prompt import prompt_tokens
from ..denoisers.texts import text_tokens
from ..errors import InputError
from ..layout import Grid, TokenLayout
from ..models import ImageSource, read_image
from ..recording import Branch
from ..select import Layers, layers_of
from ..trace import Trace
from .budget import CODE, LIMIT, HeadChoice, form_of, html_bytes
from .crop import MOST_BYTES, Seen, written
from .sheet import Draft, DraftLayer

MOST_LAYERS = 32
"""Layers, over all steps, that are chosen where none are named; numbers of each take Python a second or more."""

LARGEST = 1024
"""Patches up to which a grid of a U-Net is taken by default: 32 × 32, 2.4 MB a layer with 77 words."""

# bytes of the index: of a head, of a layer beside them, of a token in a layer's groups, of a token's string
INDEX_HEAD, INDEX_LAYER, INDEX_TOKEN, INDEX_STRING = 260, 3000, 7, 60


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
    part, guided = of_branch(trace, branch)
    notes = [f"{branch} branch of guidance"] if guided else []
    asked = calls_of(part, steps)
    blocks, left = _of_one_grid(blocks_of(part, asked[-1], words), layers)
    names = list(blocks) if layers is None else [n for n in blocks if n in layers_of(layers, list(blocks))]
    strings = _strings(text, prompt, tokenizer)
    example = block_chain(part, asked[-1], blocks[names[0]], strings)
    room = min(MOST_LAYERS, _room(DraftLayer(names[0], 0, 0, example), heads, small, limit))
    calls, chosen = _evenly(asked, names, room, steps is None, layers is None)
    if (len(calls), len(chosen)) != (len(asked), len(names)):
        left.append(f"{len(calls)} of {len(asked)} steps and {len(chosen)} of {len(names)} layers, evenly spaced")
    if blocks[names[0]].cross is not None:
        left.append(f"self- and cross-attention joined, heads averaged; {CROSSING:.0%} of a bounce steps over to words")
    numbers = {name: number for number, name in enumerate(blocks)}
    made = [
        DraftLayer(name, numbers[name], place, block_chain(part, call, blocks[name], strings))
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
        [{"step": call, "timestep": record_of(part, call, blocks[chosen[0]].square).timestep} for call in calls],
    )


def _of_one_grid(found: dict[str, Block], layers: Layers) -> tuple[dict[str, Block], list[str]]:
    """Blocks of the one grid that is shown; and what was left out."""
    named = [name for name in found if layers is None or name in layers_of(layers, list(found))]
    grids = Counter((found[name].count, found[name].grid) for name in named)
    if layers is not None and len(grids) > 1:
        listed = ", ".join(f"{name} {_across(found[name].grid)}" for name in named[:4])
        raise InputError(f"layers = {layers!r} have {len(grids)} grids ({listed}); name layers of one grid")
    shown = next(iter(grids)) if len(grids) == 1 else _usual(grids)
    kept = {name: block for name, block in found.items() if (block.count, block.grid) == shown}
    others = sorted({_across(block.grid) for block in found.values() if block.grid != shown[1]})
    return kept, [f"layers of {_across(shown[1])}, not of {', '.join(others)}"] if others else []


def _across(grid: Grid) -> str:
    return " × ".join(map(str, grid))


def _usual(grids: Counter[tuple[int, Grid]]) -> tuple[int, Grid]:
    """Of several grids the one of most layers in joint attention; of a U-Net the finest that is not too large."""
    if len({grid for _, grid in grids}) == 1:
        return max(grids, key=lambda size: (size[0], grids[size]))
    small = [size for size in grids if size[1][0] * size[1][1] <= LARGEST]
    return max(small) if small else min(grids)


Strings = Callable[[int], "list[str] | None"]


def _strings(text: Sequence[str] | None, prompt: str | None, tokenizer: Any) -> Strings:
    if prompt is not None:
        return lambda count: prompt_tokens(prompt, tokenizer, count)
    return lambda count: None if text is None else list(text)


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
