"""The tokens that a vision transformer adds to its patches, read off its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

# Parameter names of transformers, timm, torchvision, open_clip and the DINO repositories. The order is
# the order in the sequence, which all of these libraries share.
_BEFORE = {
    "cls": ("cls_token", "class_token", "class_embedding", "cls_embedding", "cls"),
    "distillation": ("distillation_token", "dist_token"),
    "registers": ("register_tokens", "reg_token", "reg_tokens", "register_token", "storage_tokens"),
}
_AFTER = {"detection": ("detection_tokens",)}


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
    for module in model.modules():
        own = Extras(_counts(module, _BEFORE), _counts(module, _AFTER))
        if own.count and own not in readings:
            readings.append(own)
    explained = {sum(r.before.values()) for r in readings} or {0}
    stated = {n for m in model.modules() if isinstance(n := getattr(m, "num_prefix_tokens", None), int)}
    readings += [Extras({"prefix": n} if n else {}) for n in sorted(stated - explained)]
    return readings or [Extras()]


def owns_prefix(module: nn.Module) -> bool:
    """Whether a module, or one right below it, owns tokens that stand beside patches."""
    return any(_counts(m, _BEFORE) or _counts(m, _AFTER) for m in (module, *module.children()))


def _counts(module: nn.Module, names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    found = {}
    for span, aliases in names.items():
        for alias in aliases:
            parameter = getattr(module, alias, None)
            if isinstance(parameter, nn.Parameter) and parameter.ndim >= 1:
                count = 1 if parameter.ndim == 1 else parameter.shape[-2]
                if count:
                    found[span] = count
                break
    return found
