"""Which part of a model an attention is in: one that reads pictures, one that reads text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from ..prefix import owns_prefix

Tower = Literal["vision", "text", "other"]

_CONFIGS: dict[Tower, tuple[str, ...]] = {
    "vision": ("vision", "visual", "vit"),
    "text": ("text", "llm", "language"),
    "other": ("qformer", "perceiver", "resampler", "abstractor", "audio", "speech"),
}
_EMBEDDINGS = ("token_embedding", "word_embeddings", "embed_tokens", "tok_embeddings", "wte")


def path(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules from the attention ``name`` up to ``model``, the nearest first; those of the path that exist."""
    found, module = [model], model
    for part in name.split(".") if name else ():
        inner: Any = getattr(module, part, None)
        if not isinstance(inner, nn.Module):
            inner = getattr(getattr(module, "_orig_mod", None), part, None)  # under torch.compile
        if not isinstance(inner, nn.Module):
            break
        found.append(inner)
        module = inner
    return found[::-1]


def find_tower(model: nn.Module, name: str) -> Tower | None:
    """What the part of ``model`` with the attention ``name`` reads.

    The nearest module below ``model`` that says it: by its configuration, which is one of those
    that the model's own holds (``vision_config``, ``text_config``), or its class's name; by CLS
    tokens or registers, or a table of words, that it owns. "other" is a configuration of something else
    (a Q-Former, audio). None where none says it.
    """
    owned = dict(_owned_configs(getattr(model, "config", None)))
    for module in path(model, name)[:-1]:
        config = getattr(module, "config", None)
        kind = owned.get(type(config)) or _named(type(config).__name__) or _named(type(module).__name__)
        if kind is not None:
            return kind
        if owns_prefix(module):
            return "vision"
        if any(isinstance(getattr(module, n, None), nn.Embedding) for n in _EMBEDDINGS):
            return "text"
    return None


def _owned_configs(config: Any) -> Iterator[tuple[type, Tower]]:
    for name in dir(config) if config is not None else ():
        if not name.endswith("_config") or name.startswith("_"):
            continue
        inner = getattr(config, name, None)
        if inner is None or isinstance(inner, dict) or callable(inner) or type(inner) is type(config):
            continue
        kind = name.removesuffix("_config")
        for tower, names in _CONFIGS.items():
            if kind in names:
                yield type(inner), tower


def _named(name: str) -> Tower | None:
    """From the words of a class's name; none where it names both."""
    words = set(re.findall(r"[A-Z][a-z]+", name))
    if ("Vision" in words) != ("Text" in words):
        return "vision" if "Vision" in words else "text"
    return None
