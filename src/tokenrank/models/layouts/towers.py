"""Towers of a model, one for pictures, one for text, and the tokens that stand beside patches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import nn

from ..preprocess import pair, patch_size

Tower = Literal["vision", "text", "other"]
_CONFIGS: dict[Tower, tuple[str, ...]] = {
    "vision": ("vision", "visual", "vit"),
    "text": ("text", "llm", "language"),
    "other": ("qformer", "perceiver", "resampler", "abstractor", "audio", "speech"),
}
_EMBEDDINGS = ("token_embedding", "word_embeddings", "embed_tokens", "tok_embeddings", "wte")

# Parameter names of transformers, timm, torchvision, open_clip and the DINO repositories. The order is
# the order in the sequence, which all of these libraries share.
_BEFORE = {
    "cls": ("cls_token", "class_token", "class_embedding", "cls_embedding", "cls"),
    "distillation": ("distillation_token", "dist_token"),
    "registers": ("register_tokens", "reg_token", "reg_tokens", "register_token", "storage_tokens"),
}
_AFTER = {"detection": ("detection_tokens",)}
_NAMES = frozenset(alias for names in (_BEFORE, _AFTER) for aliases in names.values() for alias in aliases)


class Structure:
    """What a model's modules say of its tokens, whichever of them ran; each answer is read off them once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._towers: dict[str, Tower | None] = {}
        self._reads: dict[nn.Module, Tower | None] = {}

    def reads(self, module: nn.Module) -> Tower | None:
        """What this module itself says that it reads."""
        if module not in self._reads:
            self._reads[module] = _reads(self, module)
        return self._reads[module]

    def tower(self, name: str) -> Tower | None:
        """See ``find_tower``."""
        if name not in self._towers:
            self._towers[name] = find_tower(self, name)
        return self._towers[name]

    @cached_property
    def extras(self) -> list[Extras]:
        """See ``find_extras``."""
        return find_extras(self.model)

    @cached_property
    def patch_size(self) -> tuple[int, int] | None:
        """See ``preprocess.patch_size``."""
        return patch_size(self.model)

    @cached_property
    def windows(self) -> set[tuple[int, int]]:
        """(rows, columns) of the windows that its modules name."""
        values = (stated(m, name) for m in self.model.modules() for name in ("window_size", "partition_size"))
        return {size for v in values if v is not None and (size := pair(tuple(v) if isinstance(v, list) else v))}

    @cached_property
    def configs(self) -> dict[type, Tower]:
        """What the configurations are for that its own holds."""
        return dict(_owned_configs(getattr(self.model, "config", None)))


def path(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules from the attention ``name`` up to ``model``, the nearest first; those of the path that exist."""
    modules = [_compiled(model)]
    for part in name.split(".") if name else ():
        inner: Any = getattr(modules[-1], part, None)
        if not isinstance(inner, nn.Module):
            break
        modules.append(_compiled(inner))
    return modules[::-1]


def _compiled(module: nn.Module) -> nn.Module:
    """The module that torch.compile wrapped, which is not in its name either."""
    inner = module._modules.get("_orig_mod")
    return module if inner is None else inner


def stated(module: nn.Module, name: str) -> Any:
    """An attribute that is no parameter and no module; None where there is none. Much faster than to ask for it."""
    if name in module.__dict__:
        return module.__dict__[name]
    return getattr(module, name, None) if hasattr(type(module), name) else None


def find_tower(structure: Structure, name: str) -> Tower | None:
    """What the part of a model with the attention ``name`` reads.

    The nearest module below the model that says it: by its configuration, which is one of those
    that the model's own holds (``vision_config``, ``text_config``), or its class's name; by CLS
    tokens or registers, or a table of words, that it owns. "other" is a configuration of something else
    (a Q-Former, audio). None where none says it.
    """
    for module in path(structure.model, name)[:-1]:
        kind = structure.reads(module)
        if kind is not None:
            return kind
    return None


def _reads(structure: Structure, module: nn.Module) -> Tower | None:
    config = stated(module, "config")
    kind = structure.configs.get(type(config)) or _named(type(config).__name__) or _named(type(module).__name__)
    if kind is not None:
        return kind
    if owns_prefix(module):
        return "vision"
    return "text" if any(isinstance(module._modules.get(n), nn.Embedding) for n in _EMBEDDINGS) else None


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


@dataclass(frozen=True)
class Extras:
    """Tokens before and after the patches: span name → number of tokens."""

    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many tokens there are beside the patches."""
        return sum(self.before.values()) + sum(self.after.values())

    def around(self, span: str, count: int) -> dict[str, int]:
        """All spans in order, with ``count`` tokens called ``span`` in the middle."""
        return {**self.before, span: count, **self.after}

    def __str__(self) -> str:
        spans = {**self.before, **self.after}
        return " + ".join(f"{n} {name}" for name, n in spans.items()) or "no extra token"


def find_extras(model: nn.Module) -> list[Extras]:
    """Every reading of which tokens stand beside the patches in ``model``.

    One for each submodule that owns such tokens, and one for each ``num_prefix_tokens`` (timm's models
    and their attention layers) that none of those explains. With neither, the one reading "none".
    """
    readings: list[Extras] = []
    modules = list(model.modules())
    for module in modules:
        if _owns_named(module):
            own = Extras(_counts(module, _BEFORE), _counts(module, _AFTER))
            if own.count and own not in readings:
                readings.append(own)
    explained = {sum(r.before.values()) for r in readings} or {0}
    counts = {n for m in modules if isinstance(n := stated(m, "num_prefix_tokens"), int)}
    readings += [Extras({"prefix": n} if n else {}) for n in sorted(counts - explained)]
    return readings or [Extras()]


def owns_prefix(module: nn.Module) -> bool:
    """Whether a module, or one right below it, owns tokens that stand beside patches."""
    owners = filter(_owns_named, (module, *module.children()))
    return any(_counts(m, _BEFORE) or _counts(m, _AFTER) for m in owners)


def _owns_named(module: nn.Module) -> bool:
    """Whether some parameter of its own has one of the names; a quick look, since hardly any module does."""
    return bool(module._parameters) and not _NAMES.isdisjoint(module._parameters)


def _counts(module: nn.Module, names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    counts = {}
    for span, aliases in names.items():
        parameter = next((p for alias in aliases if (p := module._parameters.get(alias)) is not None and p.ndim), None)
        count = 0 if parameter is None else 1 if parameter.ndim == 1 else parameter.shape[-2]
        if count:
            counts[span] = count
    return counts
