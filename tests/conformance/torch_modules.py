"""PyTorch's own attention: modules, the fused function, FlexAttention."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .case import Case
from .transformers_shared import peaky

B, H, N, M, D = 2, 4, 8, 16, 8  # powers of two: flex_attention of PyTorch 2.6 takes no others
PADDED = torch.tensor([[False] * N, [False] * (N - 2) + [True] * 2])
LATER = torch.ones(N, N, dtype=torch.bool).triu(1)
FAST = "in training mode; in evaluation PyTorch takes a faster path of its own, which rounds differently"


class Attend(nn.Module):
    """softmax(q kᵀ) v by one function of PyTorch."""

    def __init__(self, attention: Callable[..., Any]) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        """The function's result."""
        return self.attention(query, key, value)


def of_ones(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """The weights of any attention: its output for values that are ones in one place, in float64."""
    key = inputs["key"]
    eye = torch.eye(key.shape[-2], dtype=torch.float64).expand(*key.shape[:-1], -1)
    with torch.compiler.set_stance("force_eager"):
        return [model(inputs["query"].double(), key.double(), eye)]


def mha_weights(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """What every ``nn.MultiheadAttention`` returns when asked for weights, on the inputs that it had."""
    twin, found = copy.deepcopy(model), list[Tensor]()

    def ask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        asked = kwargs | {"need_weights": True, "average_attn_weights": False}
        found.append(nn.MultiheadAttention.forward(module, *args, **asked)[1])  # type: ignore[arg-type]

    for module in twin.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(ask, with_kwargs=True)
    twin(**inputs)
    return found


def mha(variant: str, inputs: dict[str, Any] | None = None, note: str = "", **settings: Any) -> Case:
    """``nn.MultiheadAttention`` with options of its call and of its making."""
    settings = {"batch_first": True} | settings

    def build() -> nn.Module:
        return peaky(nn.MultiheadAttention(32, H, **settings))

    def given() -> dict[str, Any]:
        shapes = ((B, N), (B, M)) if settings["batch_first"] else ((N, B), (M, B))
        keys = shapes[1] if settings.get("kdim") else shapes[0]
        return {
            "query": torch.randn(*shapes[0], 32),
            "key": torch.randn(*keys, settings.get("kdim") or 32),
            "value": torch.randn(*keys, settings.get("vdim") or 32),
            **(inputs or {}),
        }

    kinds = ("multi_head_attention",)
    return Case("torch", "nn.MultiheadAttention", variant, build, given, kinds, mha_weights, 1, note)


def transformer(target: str, variant: str, build: Callable[[], nn.Module], **inputs: Tensor) -> Case:
    """Encoders and decoders, which ask for no weights."""

    def given() -> dict[str, Any]:
        source = {"src": torch.randn(B, N, 32)}
        if target != "nn.TransformerEncoder":
            source = {"tgt": torch.randn(B, N, 32), "memory": torch.randn(B, M, 32)}
        return source | inputs

    def trained() -> nn.Module:
        return peaky(build(), 0.2).train()

    return Case("torch", target, variant, trained, given, ("multi_head_attention",), mha_weights, note=FAST)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, H, 48, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def decoder() -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(32, H, 48, dropout=0.0, batch_first=True), 2)


def function(
    target: str,
    variant: str,
    build: Callable[[], Callable[..., Any]],
    kind: str,
    keys: int = N,
    key_heads: int = H,
    note: str = "",
) -> Case:
    """A function of q, k and v alone."""

    def given() -> dict[str, Any]:
        shape = (B, key_heads, keys, D)
        return {"query": 2 * torch.randn(B, H, N, D), "key": 2 * torch.randn(shape), "value": torch.randn(shape)}

    return Case("torch", target, variant, lambda: Attend(build()), given, (kind,), of_ones, 1, note)


def sdpa(variant: str, keys: int = N, key_heads: int = H, note: str = "", **options: Any) -> Case:
    """``F.scaled_dot_product_attention`` with its options."""

    def build() -> Callable[..., Any]:
        def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            mask = options.get("attn_mask")
            cast = mask.to(query.dtype) if isinstance(mask, Tensor) and mask.is_floating_point() else mask
            given = options | ({} if cast is None else {"attn_mask": cast})
            return functional.scaled_dot_product_attention(query, key, value, **given)

        return attention

    return function("F.scaled_dot_product_attention", variant, build, "sdpa", keys, key_heads, note)


def lower_right() -> Callable[..., Any]:
    from torch.nn.attention.bias import causal_lower_right

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query, key, value, causal_lower_right(N, M))

    return attention


def flex(
    variant: str,
    score: Callable[..., Tensor] | None = None,
    allowed: Callable[..., Tensor] | None = None,
    keys: int = N,
    key_heads: int = H,
    note: str = "",
) -> Case:
    """``flex_attention`` with functions of scores and of masks."""

    def build() -> Callable[..., Any]:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        mask = None if allowed is None else create_block_mask(allowed, B, None, N, keys, device="cpu")
        return lambda query, key, value: flex_attention(query, key, value, score, mask, enable_gqa=key_heads < H)

    return function("flex_attention", variant, build, "flex", keys, key_heads, note)


def distant(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """ALiBi."""
    return score - (key - query).abs() * 2.0 ** -(head + 1)


def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return 3 * torch.tanh(score / 3)


def earlier(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key


def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A causal window, smaller in the second sample."""
    return (query >= key) & (query - key <= 3 - batch)


CASES: list[Case] = [
    mha("weights asked for", {"need_weights": True, "average_attn_weights": False}),
    mha("weights averaged", {"need_weights": True}),
    mha("fused", {"need_weights": False}),
    mha("fused, batch second", {"need_weights": False}, batch_first=False),
    mha("fused, padded", {"need_weights": False, "key_padding_mask": PADDED}),
    mha("fused, causal", {"need_weights": False, "attn_mask": LATER, "is_causal": True}),
    mha("fused, causal, padded", {"need_weights": False, "attn_mask": LATER, "key_padding_mask": PADDED}),
    mha("weights asked for, causal, padded", {"attn_mask": LATER, "key_padding_mask": PADDED}),
    mha("fused, bias_kv", {"need_weights": False}, "one key more", add_bias_kv=True),
    mha("fused, add_zero_attn", {"need_weights": False}, "one key more", add_zero_attn=True),
    mha("weights asked for, bias_kv, add_zero_attn", None, "two keys more", add_bias_kv=True, add_zero_attn=True),
    mha("fused, kdim and vdim", {"need_weights": False}, "cross-attention", kdim=12, vdim=20),
    mha("weights asked for, kdim and vdim", None, "cross-attention", kdim=12, vdim=20, batch_first=False),
    transformer("nn.TransformerEncoder", "plain", encoder),
    transformer("nn.TransformerEncoder", "padded", encoder, src_key_padding_mask=PADDED),
    transformer("nn.TransformerEncoder", "causal", encoder, mask=LATER),
    transformer("nn.TransformerDecoder", "plain", decoder),
    transformer("nn.TransformerDecoder", "causal, padded", decoder, tgt_mask=LATER, tgt_key_padding_mask=PADDED),
    sdpa("plain"),
    sdpa("scale", scale=0.7),
    sdpa("bool mask", attn_mask=~LATER),
    sdpa("bool mask, padded", attn_mask=~PADDED[:, None, None]),
    sdpa("float mask", attn_mask=-torch.arange(N * N).reshape(N, N).float().sqrt()),
    sdpa("float mask, by head", attn_mask=-torch.arange(H * N * N).reshape(1, H, N, N).float().sin()),
    sdpa("causal", is_causal=True),
    sdpa("causal, more keys", M, is_causal=True, note="aligned at the upper left"),
    sdpa("causal, fewer keys", 4, is_causal=True, note="aligned at the upper left"),
    function("F.scaled_dot_product_attention", "causal_lower_right, more keys", lower_right, "sdpa", M),
    sdpa("GQA", key_heads=2, enable_gqa=True),
    sdpa("causal, GQA", key_heads=2, enable_gqa=True, is_causal=True),
    sdpa("one key head", key_heads=1, note="broadcast, without enable_gqa"),
    sdpa("cross-attention", M),
    flex("plain"),
    flex("mask_mod, causal", allowed=earlier),
    flex("mask_mod, windows by sample", allowed=near),
    flex("mask_mod, more keys", allowed=earlier, keys=M),
    flex("mask_mod, causal, GQA", allowed=earlier, key_heads=2),
    flex("score_mod, ALiBi", distant, note="weights alone"),
    flex("score_mod, soft-capped", capped, note="weights alone"),
    flex("score_mod and mask_mod", distant, earlier, note="weights alone"),
]
