"""Layout of an attention: evidence in, one reading or an error out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ...errors import LayoutError
from ...layout import Grid, TokenLayout
from ...recording import AttentionRecord, Evidence, Lost, Trail
from ..sound import SoundSettings
from .denoisers import cross_layout, joint_layout
from .names import in_decoder
from .order import agrees, claims_nothing_else, refuse_lost, seen_layout, seen_sequence
from .parts import CURE, Inputs, ambiguous, describe, times
from .pictures import frame_count, measured_grids, patchified_layout, picture, picture_readings, stated_grids
from .sound import sound_layout
from .text import multimodal_layout, text_lengths
from .towers import Structure, Tower


def find_layout(
    model: nn.Module,
    num_tokens: int,
    evidence: Evidence,
    name: str = "",
    structure: Structure | None = None,
    trail: Trail | Lost | None = None,
    sounds: SoundSettings | None = None,
) -> TokenLayout | None:
    """The layout of an attention over ``num_tokens`` tokens in ``model``.

    Where the patches of a picture were followed from a convolution to this attention (``trail``), they are where they
    were seen, in the order in which they were seen. The tokens that the model's own parameters name (CLS, distillation
    token, registers) name the others where they explain all of them. Text: as many tokens as
    ``input_ids`` has, with the runs of image tokens in it as pictures (``multimodal_layout``).
    Denoisers: latent patches and text in the order of their class (``joint_layout``). What was seen overrules them.

    Where nobody followed anything, a grid measured in the forward must, together with the tokens that the parameters
    name, make exactly ``num_tokens``. Without any measured grid, picture size over patch size stands in.

    Args:
        model: the module that ran.
        num_tokens: N, rows of the attention matrix; or its columns where it is not square.
        evidence: what the forward showed of its tokens.
        name: dotted path of the attention module under ``model``; "" where there is none. It tells
            the parts of a model apart, such as a text tower from a picture tower.
        structure: of ``model``, where it has been read already.
        trail: of this attention, one row of tokens for each sample; see ``Evidence.trail``.
        sounds: how a sound was prepared, where that is known.

    Returns:
        The layout, without token strings; None when nothing says what the tokens are.

    Raises:
        LayoutError: the evidence contradicts itself, several readings fit, or patches were lost from sight.
    """
    if not in_decoder(name) and not evidence.conv_grids:  # a spectrogram may be read as a picture
        heard = sound_layout(model, num_tokens, evidence.inputs, sounds)
        if heard is not None:
            return heard
    structure = structure or Structure(model)
    tower = structure.tower(name)
    stated = joint_layout(model, num_tokens, evidence, name)
    if stated is None:
        stated = cross_layout(model, num_tokens, evidence, name)
    if stated is None:
        stated = patchified_layout(model, num_tokens, evidence.inputs, name, tower)
    if stated is not None:
        return _not_against(stated, structure, num_tokens, name, trail)
    return _plain_layout(structure, num_tokens, evidence, name, tower, trail)


def _not_against(
    stated: TokenLayout, structure: Structure, num_tokens: int, name: str, trail: Trail | Lost | None
) -> TokenLayout:
    """What a class or arguments say, where nothing else was seen; otherwise what was seen."""
    if not isinstance(trail, Trail) or not trail.pictures:
        return stated
    seen = seen_sequence(trail, num_tokens, name)
    return stated if claims_nothing_else(stated, seen) else seen_layout(seen, structure.extras)


def expected_layout(model: nn.Module, inputs: Inputs) -> TokenLayout | None:
    """The layout that ``model`` should have for ``inputs``, before it runs.

    From picture size, patch size and the tokens that its parameters name. None where these do not
    say it, or say several things.
    """
    structure = Structure(model)
    grids, extras = stated_grids(structure, inputs), structure.extras
    if len(grids) != 1 or len(extras) != 1:
        return None
    return picture(grids[0], extras[0])


def _plain_layout(
    structure: Structure,
    num_tokens: int,
    evidence: Evidence,
    name: str,
    tower: Tower | None,
    trail: Trail | Lost | None,
) -> TokenLayout | None:
    """Of one picture or video, or of a text, with or without pictures between its words."""
    if tower == "other":
        return None
    if "temporal" in name and num_tokens == frame_count(evidence.inputs):
        return TokenLayout({"frames": num_tokens})
    measured = [] if tower == "text" else measured_grids(evidence)
    grids = measured or ([] if tower == "text" else stated_grids(structure, evidence.inputs))
    lengths = {} if tower == "vision" else text_lengths(evidence.inputs, name)
    texts = _texts(structure, num_tokens, evidence, lengths)
    if isinstance(trail, Trail) and trail.pictures:
        return _as_seen(structure, num_tokens, name, trail, texts, grids)
    if isinstance(trail, Lost) and measured and not texts:
        raise refuse_lost(trail, num_tokens, name)
    if trail is not None and measured:
        grids = []  # of other tokens than these
    readings = _pictures(structure, num_tokens, evidence.inputs, grids) + texts
    if len(readings) > 1:
        raise ambiguous(num_tokens, readings)
    if not readings and (grids or lengths):
        raise _unknown(num_tokens, grids, structure, lengths)
    return readings[0] if readings else None


def _texts(structure: Structure, num_tokens: int, evidence: Evidence, lengths: Mapping[str, int]) -> list[TokenLayout]:
    """A text of ``num_tokens``, with its pictures."""
    if num_tokens not in lengths.values():
        return []
    return [multimodal_layout(structure.model, num_tokens, evidence) or TokenLayout({"text": num_tokens})]


def _as_seen(
    structure: Structure,
    num_tokens: int,
    name: str,
    trail: Trail,
    texts: Sequence[TokenLayout],
    grids: Sequence[Grid],
) -> TokenLayout:
    """The layout of patches that were followed: in the words of a reading that has them where they were seen."""
    seen = seen_sequence(trail, num_tokens, name)
    readings = [text for text in texts if text.grids and claims_nothing_else(text, seen)]
    readings = readings or [r for r in picture_readings(num_tokens, grids, structure.extras) if agrees(r, seen)]
    if len(readings) > 1:
        raise ambiguous(num_tokens, readings)
    return readings[0] if readings else seen_layout(seen, structure.extras)


def _pictures(structure: Structure, num_tokens: int, inputs: Inputs, grids: Sequence[Grid]) -> list[TokenLayout]:
    """Every picture or video that makes ``num_tokens``."""
    readings = picture_readings(num_tokens, grids, structure.extras) if grids else []
    if readings:
        refuse_shuffled(structure.model, inputs)
        refuse_windows(structure, num_tokens, grids, readings)
    return readings


def _unknown(num_tokens: int, grids: Sequence[Grid], structure: Structure, lengths: Mapping[str, int]) -> LayoutError:
    """What was seen that does not fit, in words, with the cure."""
    clues = [f"{name} has {length} tokens" for name, length in lengths.items()]
    fitting = [g for g in grids if math.prod(g) <= num_tokens]
    if fitting:
        grid, patches = fitting[-1], math.prod(fitting[-1])
        names = " or ".join(str(e) for e in structure.extras)
        clue = f"the last grid that fits is {times(grid)} = {patches} patches, which leaves {num_tokens - patches}, "
        clues.insert(0, f"{clue}and the model's parameters name {names}")
    elif grids:
        coarsest = min(grids, key=math.prod)
        clue = f"the coarsest grid seen is {times(coarsest)} = {math.prod(coarsest)} patches, so these are windows, or "
        clues.insert(0, f"{clue}patches were dropped or merged")
    return LayoutError(f"unknown layout of {num_tokens} tokens: {', and '.join(clues)}; {CURE}")


def refuse_shuffled(model: nn.Module, inputs: Inputs) -> None:
    """A masked autoencoder sorts its patches by ``noise``: only rising noise keeps them in place.

    Raises:
        LayoutError: it does not rise, or is not known.
    """
    if getattr(getattr(model, "config", None), "model_type", None) != "vit_mae":
        return
    noise = inputs.get("noise")
    if not isinstance(noise, Tensor) or bool((noise.diff(dim=-1) <= 0).any()):
        raise LayoutError(
            "the masked autoencoder shuffles its patches, and in which order is not known; keep them in "
            "place: model.config.mask_ratio = 0 and model(pixel_values, noise=torch.arange(patches)[None])"
        )


def refuse_windows(
    structure: Structure, num_tokens: int, grids: Sequence[Grid], readings: Sequence[TokenLayout]
) -> None:
    """A window as large as the last, coarse grid looks like that grid while it is a part of a finer one.

    Raises:
        LayoutError: there is such a window.
    """
    window = next((w for w in structure.windows if math.prod(w) == num_tokens), None)
    finer = [g for g in grids if math.prod(g) > num_tokens]
    if window is not None and finer:
        *_, rows, columns = finer[-1]
        raise LayoutError(
            f"ambiguous layout of {num_tokens} tokens: a {window[0]} × {window[1]} window of the "
            f"{rows} × {columns} grid; or {describe(readings[0])}; {CURE}"
        )


def refuse_channels(record: AttentionRecord, model: nn.Module) -> None:
    """Raise where a square record has one row a channel.

    Heads times rows is then the width of the module's projections, which otherwise is heads times the
    length of a query. Where both are, shapes cannot tell, and the record counts as one of tokens.

    Raises:
        LayoutError: it is attention over channels.
    """
    if record.q is None or len(record.shape) < 3:
        return
    widths = _widths(model, record.name)
    heads, rows, length = record.shape[-3], record.shape[-1], record.q.shape[-1]
    if heads * rows in widths and heads * length not in widths:
        raise LayoutError(
            f"the attention of {record.name!r} is over {rows} channels a head ({heads} × {rows} = {heads * rows}, the "
            f"width of its projections), expected tokens; leave it out with layers=, or take the chain of its channels "
            "with trace.layout = False"
        )


def _widths(model: nn.Module, name: str) -> set[int]:
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return set()
    widths = (getattr(child, "in_features", getattr(child, "in_channels", None)) for child in module.children())
    return {width for width in widths if isinstance(width, int)}
