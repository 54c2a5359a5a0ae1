"""Tiny language models, peaky enough that a wrong mask shows."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 60,
}


def peaky(model: nn.Module, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def llama(attention: str = "sdpa", **options: Any) -> nn.Module:
    model = peaky(hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, num_key_value_heads=2, **options)))
    model.set_attn_implementation(attention)
    return model


def mistral(attention: str, window: int) -> nn.Module:
    config = hf.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=window)
    model = peaky(hf.MistralForCausalLM(config))
    model.set_attn_implementation(attention)
    return model


def gpt_oss() -> nn.Module:
    config = hf.GptOssConfig(
        **{**SIZES, "num_attention_heads": 4},
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )
    config._attn_implementation = "eager"
    model = peaky(hf.GptOssForCausalLM(config))
    for layer in model.model.layers:
        nn.init.normal_(layer.self_attn.sinks, std=1.0)
    return model
