"""Denoisers of diffusers: latent patches, text beside them, or both in one sequence, and in which order.

The orders were measured: one latent patch was changed, and so the tests do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import LayoutError
from ...layout import Grid, TokenLayout
from ...recording import Evidence
from .parts import (
    CURE,
    ONE_SAMPLE,
    Inputs,
    Part,
    ambiguous,
    describe,
    joined,
    parts_of_ids,
    parts_of_shapes,
    picture_part,
    shape,
    shape_of,
    total,
)
from .pictures import measured_grids, picture_readings
from .towers import Extras, path

Pictures = Callable[[nn.Module, Evidence], "list[Part] | None"]
Texts = Callable[[nn.Module, Evidence], "list[list[Part]]"]
_MULTIPLE = 32  # Z-Image fills picture and text up to multiples of it
# modules that refine one of the two before they are joined
_TEXT_ONLY = re.compile(r"context_refiner|token_refiner|context_embedder|caption|text_embed")
_PICTURE_ONLY = re.compile(r"noise_refiner")


def joint_layout(model: nn.Module, num_tokens: int, evidence: Evidence, name: str) -> TokenLayout | None:
    """The layout in a denoiser whose order of picture and text is known; None for any other model.

    Raises:
        LayoutError: its arguments do not tell the picture, or nothing known has ``num_tokens``
            tokens, or several do.
    """
    denoiser = denoiser_of(model)
    if denoiser is None:
        return None
    sequences = denoiser.sequences(model, evidence)
    if sequences is None:
        raise LayoutError(
            f"unknown layout of {num_tokens} tokens of {name!r}: the arguments that were kept of "
            f"{type(model).__name__} do not tell the picture's size: {list(evidence.inputs)}; "
            f"{CURE}"
        )
    kinds = ["text"] if _TEXT_ONLY.search(name) else ["picture"] if _PICTURE_ONLY.search(name) else list(sequences)
    candidates = [parts for kind in kinds for parts in sequences[kind]]
    return _only(model, num_tokens, name, candidates)


def cross_layout(model: nn.Module, num_tokens: int, evidence: Evidence, name: str) -> TokenLayout | None:
    """The layout of the rows or of the columns of cross-attention from latents to text in a model of diffusers.

    None for any other attention, and where nothing known has ``num_tokens`` tokens.

    Raises:
        LayoutError: the picture and the text have equally many tokens.
    """
    if not is_of_diffusers(model) or not is_cross_attention(path(model, name)[0], name):
        return None
    texts = [joined(parts) for parts in embedded_text(model, evidence) if total(parts) == num_tokens]
    readings = texts + picture_readings(num_tokens, measured_grids(evidence), [Extras()])
    if len(readings) > 1:
        raise ambiguous(num_tokens, readings)
    return readings[0] if readings else None


def _only(model: nn.Module, num_tokens: int, name: str, candidates: list[list[Part]]) -> TokenLayout:
    readings: list[TokenLayout] = []
    for parts in candidates:
        if total(parts) == num_tokens and (layout := joined(parts)) not in readings:
            readings.append(layout)
    if len(readings) == 1:
        return readings[0]
    if readings:
        raise ambiguous(num_tokens, readings)
    known = "; or ".join(dict.fromkeys(f"{total(p)}: {describe(joined(p))}" for p in candidates)) or "none"
    raise LayoutError(
        f"unknown layout of {num_tokens} tokens of {name!r}: {type(model).__name__} has sequences of {known}; {CURE}"
    )


@dataclass(frozen=True)
class Denoiser:
    """How a class of denoisers joins its tokens.

    Attributes:
        order: of "picture", "text" and "registers" in the joint sequence.
        pictures: the picture's parts, None where the arguments do not tell them.
        texts: every text that a sample of the batch may have, as parts.
        joint_text: the same for the joint sequence, where it has less of it.
    """

    order: tuple[str, ...]
    pictures: Pictures
    texts: Texts
    joint_text: Texts | None = None

    def sequences(self, model: nn.Module, evidence: Evidence) -> dict[str, list[list[Part]]] | None:
        """Sequences that its attention may be over: "picture", "text" and "joint"; None where not known."""
        picture = self.pictures(model, evidence)
        texts = self.texts(model, evidence)
        if picture is None:
            return None
        between = self.joint_text(model, evidence) if self.joint_text else texts
        joint = [_ordered(self.order, picture, text, _registers(model)) for text in between]
        return {"picture": [picture], "text": texts, "joint": joint}


def denoiser_of(model: nn.Module) -> Denoiser | None:
    """How ``model`` joins its tokens, where it is of one of the classes known here."""
    return next((_DENOISERS[c.__name__] for c in type(model).__mro__ if c.__name__ in _DENOISERS), None)


def is_of_diffusers(model: nn.Module) -> bool:
    """Whether a model's class comes from diffusers."""
    return any(c.__module__.split(".")[0] == "diffusers" for c in type(model).__mro__)


def is_cross_attention(module: nn.Module, name: str) -> bool:
    """Whether an attention of diffusers takes its keys from the text: told by the module, or else by its name."""
    told = getattr(module, "is_cross_attention", None)
    return told if isinstance(told, bool) else name.split(".")[-1] in ("attn2", "cross_attn")


def embedded_text(model: nn.Module, evidence: Evidence) -> list[list[Part]]:
    """The text as long as its embeddings (B, M, d)."""
    text = shape(evidence.inputs, "encoder_hidden_states")
    return [] if text is None or len(text) != 3 else [[Part("text", text[-2])]]


def _ordered(order: Sequence[str], picture: list[Part], text: list[Part], registers: int) -> list[Part]:
    parts = {"picture": picture, "text": text, "registers": [Part("registers", registers)]}
    return [part for kind in order for part in parts[kind]]


def _registers(model: nn.Module) -> int:
    tokens = getattr(model, "register_tokens", None)
    return int(tokens.shape[-2]) if isinstance(tokens, nn.Parameter) else 0


def _config(model: nn.Module, name: str) -> Any:
    return getattr(getattr(model, "config", None), name, None)


def _patch(model: nn.Module) -> tuple[int, int] | None:
    size = _config(model, "patch_size")
    if isinstance(size, int):
        return size, size
    return (size[-2], size[-1]) if isinstance(size, list | tuple) and len(size) >= 2 else None


def _latent_grid(model: nn.Module, evidence: Evidence) -> list[Part] | None:
    """Latents (B, C, H, W) over the patch size."""
    latents, patch = shape(evidence.inputs, "hidden_states"), _patch(model)
    if latents is None or len(latents) != 4 or patch is None:
        return None
    return [picture_part((latents[-2] // patch[0], latents[-1] // patch[1]))]


def _video(frames: int) -> Pictures:
    """Latents of five dimensions with the frames at place ``frames``, over the patch size."""

    def parts(model: nn.Module, evidence: Evidence) -> list[Part] | None:
        latents, patch = shape(evidence.inputs, "hidden_states"), _patch(model)
        if latents is None or len(latents) != 5 or patch is None:
            return None
        each = _config(model, "patch_size_t") or 1
        return [picture_part((-(-latents[frames] // each), latents[-2] // patch[0], latents[-1] // patch[1]))]

    return parts


def _measured_video(model: nn.Module, evidence: Evidence) -> list[Part] | None:
    """The grid of the first convolution over frames: the patch embedding."""
    grids: list[Grid] = [g for g in evidence.conv_grids if len(g) == 3]
    return [picture_part(grids[0])] if grids else None


def _packed(model: nn.Module, evidence: Evidence) -> list[Part] | None:
    """Latents (B, N, d), whose place in the picture ``img_ids`` tell."""
    inputs = evidence.inputs
    latents, ids = shape(inputs, "hidden_states"), inputs.get("img_ids")
    if latents is None or len(latents) != 3:
        return None
    if isinstance(ids, torch.Tensor) and not ids.is_meta and ids.shape[-1] >= 3:
        parts = parts_of_ids(ids[0] if ids.ndim == 3 else ids)
        if total(parts) == latents[-2]:
            return parts
    return [Part("image", latents[-2])]


def _shaped(model: nn.Module, evidence: Evidence) -> list[Part] | None:
    """Latents (B, N, d), whose place in the picture ``img_shapes`` tell."""
    latents = shape(evidence.inputs, "hidden_states")
    if latents is None or len(latents) != 3:
        return None
    parts = parts_of_shapes(evidence.inputs.get("img_shapes"))
    return parts if parts is not None and total(parts) == latents[-2] else [Part("image", latents[-2])]


def _shortened_text(model: nn.Module, evidence: Evidence) -> list[list[Part]]:
    """As many tokens as the mask of a sample lets through, of every sample."""
    return [[Part("text", n)] for n in dict.fromkeys(_mask_lengths(evidence.inputs))]


def _shortened_text_of_all(model: nn.Module, evidence: Evidence) -> list[list[Part]]:
    lengths = _mask_lengths(evidence.inputs)
    if len(set(lengths)) > 1:
        raise LayoutError(
            f"{type(model).__name__} puts the picture after the text of each sample, and the texts have {lengths} "
            f"tokens (encoder_attention_mask), expected as many in all samples; {ONE_SAMPLE}"
        )
    return [[Part("text", lengths[0])]] if lengths else []


def _mask_lengths(inputs: Inputs) -> list[int]:
    mask = inputs.get("encoder_attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or mask.is_meta:
        return []
    return [int(n) for n in (mask != 0).sum(-1).tolist()]


def _listed_pictures(model: nn.Module, evidence: Evidence) -> list[Part] | None:
    """A list of latents (C, F, H, W), filled up with padding."""
    shapes = _alike(model, evidence.inputs.get("x"), "x")
    if shapes is None or len(shapes) != 4:
        return None
    patch, frames = (evidence.inputs.get(n, default) for n, default in (("patch_size", 2), ("f_patch_size", 1)))
    f, r, c = shapes[1] // frames, shapes[2] // patch, shapes[3] // patch
    part = picture_part((r, c) if f == 1 else (f, r, c))
    return [part, Part("image_padding", -part.count % _MULTIPLE)]


def _listed_text(model: nn.Module, evidence: Evidence) -> list[list[Part]]:
    """A list of text embeddings (M, d), filled up with padding."""
    size = _alike(model, evidence.inputs.get("cap_feats"), "cap_feats")
    if size is None:
        return []
    return [[Part("text", size[0]), Part("text_padding", -size[0] % _MULTIPLE)]]


def _alike(model: nn.Module, tensors: Any, name: str) -> tuple[int, ...] | None:
    """The shape of all tensors of a list."""
    if not isinstance(tensors, list | tuple) or isinstance(tensors, torch.Size):
        return None
    shapes = list(dict.fromkeys(map(shape_of, tensors)))
    if len(shapes) > 1:
        raise LayoutError(
            f"{name} of {type(model).__name__} has tensors of the shapes {shapes}, expected one shape for all "
            f"samples; {ONE_SAMPLE}"
        )
    return shapes[0] if shapes else None


_TEXT_FIRST, _PICTURE_FIRST = ("text", "picture"), ("picture", "text")
_DENOISERS: dict[str, Denoiser] = {
    "SD3Transformer2DModel": Denoiser(_PICTURE_FIRST, _latent_grid, embedded_text),
    "FluxTransformer2DModel": Denoiser(_TEXT_FIRST, _packed, embedded_text),
    "Flux2Transformer2DModel": Denoiser(_TEXT_FIRST, _packed, embedded_text),
    "ChromaTransformer2DModel": Denoiser(_TEXT_FIRST, _packed, embedded_text),
    "QwenImageTransformer2DModel": Denoiser(_TEXT_FIRST, _shaped, embedded_text),
    "AuraFlowTransformer2DModel": Denoiser(("registers", "text", "picture"), _latent_grid, embedded_text),
    "Lumina2Transformer2DModel": Denoiser(_TEXT_FIRST, _latent_grid, embedded_text, _shortened_text_of_all),
    "ZImageTransformer2DModel": Denoiser(_PICTURE_FIRST, _listed_pictures, _listed_text),
    "CogVideoXTransformer3DModel": Denoiser(_TEXT_FIRST, _video(frames=1), embedded_text),
    "MochiTransformer3DModel": Denoiser(_PICTURE_FIRST, _video(frames=2), embedded_text, _shortened_text),
    "HunyuanVideoTransformer3DModel": Denoiser(_PICTURE_FIRST, _measured_video, embedded_text),
}
