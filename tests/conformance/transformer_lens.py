"""Models of TransformerLens, which reports its weights as ``hook_pattern``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .case import Case
from .transformers_shared import SIZES, peaky

NATIVE: dict[str, Any] = {
    "d_model": 32, "d_head": 8, "n_layers": 2, "n_ctx": 16, "n_heads": 4, "d_vocab": 60, "act_fn": "gelu", "d_mlp": 48,
}  # fmt: skip


def tokens() -> dict[str, Any]:
    return {"input": torch.randint(3, 60, (2, 9))}


def patterns(model: nn.Module, inputs: dict[str, Any]) -> list[Tensor]:
    """Weights (B, H, N, N) of every layer, from the library's own hooks."""
    bridge: Any = model
    _, cache = bridge.run_with_cache(**inputs)
    return [cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(2)]


def native(**settings: Any) -> Callable[[], nn.Module]:
    """The library's own transformer, from a config."""

    def build() -> nn.Module:
        from transformer_lens import TransformerBridge, TransformerBridgeConfig

        return peaky(TransformerBridge.boot_native(TransformerBridgeConfig(**NATIVE, **settings)))

    return build


def bridged(architecture: str, config: Callable[[Any], Any], compatible: bool = False) -> Callable[[], nn.Module]:
    """A model of transformers with the library's hooks; ``compatible`` folds weights as HookedTransformer did."""

    def build() -> nn.Module:
        import transformers
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        settings = config(transformers)
        settings._attn_implementation = "eager"
        model = peaky(getattr(transformers, architecture)(settings))
        bridge = build_bridge_from_module(model, architecture, hf_config=settings)
        if compatible:
            bridge.enable_compatibility_mode()
        return bridge.eval()

    return build


def gpt2(hf: Any) -> Any:
    return hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=32)


def llama(hf: Any) -> Any:
    return hf.LlamaConfig(**SIZES, num_key_value_heads=2, vocab_size=60)


def case(target: str, variant: str, build: Callable[[], nn.Module], note: str = "", kind: str = "eager") -> Case:
    return Case("transformer-lens", target, variant, build, tokens, (kind,), patterns, note=note)


CASES: list[Case] = [
    case("native transformer", "causal", native()),
    case("native transformer", "bidirectional", native(attention_dir="bidirectional")),
    case("native transformer", "causal, rotary", native(positional_embedding_type="rotary", rotary_dim=8)),
    case("native transformer", "causal, GQA", native(n_key_value_heads=2)),
    case("bridge to GPT-2", "causal", bridged("GPT2LMHeadModel", gpt2)),
    case(
        "bridge to GPT-2",
        "causal, compatibility mode",
        bridged("GPT2LMHeadModel", gpt2, True),
        "weights folded as HookedTransformer did; weights alone, as rows without keys are filled with zeros",
        "weights",
    ),
    case("bridge to Llama", "causal, GQA", bridged("LlamaForCausalLM", llama)),
]
