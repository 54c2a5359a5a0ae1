"""Text and speech models of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .case import Case
from .transformers_shared import (
    SIZES,
    TEXT,
    CachedStep,
    cached_attentions,
    cases,
    encoder_decoder,
    reported,
    words,
)

ATTENTIONS = reported("attentions")
GROUPED = {**TEXT, "num_key_value_heads": 2}
BART = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip


def decoding(model: str, config: Any, **more: Any) -> list[Case]:
    """A prompt and one cached token more, with two variants of a batch."""

    def wrapped(hf: Any, made: Any) -> nn.Module:
        return CachedStep(getattr(hf, model)(made))

    return [
        *cases(
            model.removesuffix("Model"), wrapped, config, words(), cached_attentions, suffix=", cached step", **more
        ),
        *cases(
            model.removesuffix("Model"),
            wrapped,
            config,
            words("left"),
            cached_attentions,
            suffix=", cached step, padded",
            **more,
        ),
    ]


def seq2seq(padding: str | None = None, batch: int = 2) -> Any:
    """Inputs of an encoder and of a decoder."""
    make = words(padding, batch=batch)
    return lambda: make() | {"decoder_input_ids": torch.randint(3, 60, (batch, 5)), "use_cache": False}


def speech() -> dict[str, Any]:
    """Mel spectrogram of 16 frames, 8 positions in the encoder."""
    return {
        "input_features": torch.randn(2, 8, 16),
        "decoder_input_ids": torch.randint(3, 60, (2, 5)),
        "use_cache": False,
    }


def deepseek(hf: Any) -> Any:
    return hf.DeepseekV3Config(
        **TEXT, num_key_value_heads=4, moe_intermediate_size=16, n_routed_experts=4, n_group=2, topk_group=1,
        num_experts_per_tok=2, q_lora_rank=16, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=12, v_head_dim=8,
        first_k_dense_replace=1,
    )  # fmt: skip


def gpt_oss(hf: Any) -> Any:
    return hf.GptOssConfig(
        **GROUPED, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip


def gemma2(hf: Any, **more: Any) -> Any:
    settings = {**GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4, **more}
    return hf.Gemma2Config(**settings, layer_types=["sliding_attention", "full_attention"])


def gemma3(hf: Any) -> Any:
    return hf.Gemma3TextConfig(
        **GROUPED, head_dim=8, query_pre_attn_scalar=8, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip


def t5(hf: Any) -> Any:
    return hf.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=60, decoder_start_token_id=0)


def longformer(hf: Any) -> Any:
    return hf.LongformerConfig(**SIZES, vocab_size=60, attention_window=4, max_position_embeddings=40)


CASES: list[Case] = [
    *cases("BERT", "BertModel", lambda hf: hf.BertConfig(**TEXT), words(), ATTENTIONS),
    *cases("BERT", "BertModel", lambda hf: hf.BertConfig(**TEXT), words("right"), ATTENTIONS, suffix=", padded"),
    *cases(
        "RoBERTa", "RobertaModel", lambda hf: hf.RobertaConfig(**TEXT), words("right"), ATTENTIONS, suffix=", padded"
    ),
    *cases(
        "ModernBERT",
        "ModernBertModel",
        lambda hf: hf.ModernBertConfig(
            **TEXT,
            cls_token_id=1,
            sep_token_id=2,
            local_attention=4,
            global_attn_every_n_layers=2,
            reference_compile=False,
        ),
        words("right"),
        ATTENTIONS,
        suffix=", padded",
        note="sliding window, rotary",
    ),
    *cases(
        "CLIP text",
        "CLIPTextModel",
        lambda hf: hf.CLIPTextConfig(**TEXT, max_position_embeddings=16),
        words("right"),
        ATTENTIONS,
        suffix=", causal, padded",
    ),
    *cases(
        "GPT-2",
        "GPT2Model",
        lambda hf: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=32),
        words("right", use_cache=False),
        ATTENTIONS,
        suffix=", causal, padded",
    ),
    *cases(
        "Llama",
        "LlamaModel",
        lambda hf: hf.LlamaConfig(**GROUPED),
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
    ),
    *cases(
        "Llama",
        "LlamaModel",
        lambda hf: hf.LlamaConfig(**GROUPED),
        words("right", use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA, padded",
    ),
    *decoding("LlamaModel", lambda hf: hf.LlamaConfig(**GROUPED)),
    *cases(
        "Qwen3",
        "Qwen3Model",
        lambda hf: hf.Qwen3Config(**GROUPED, head_dim=8),
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
    ),
    *cases(
        "Mistral",
        "MistralModel",
        lambda hf: hf.MistralConfig(**GROUPED, sliding_window=4),
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
        note="sliding window",
    ),
    *cases(
        "DeepSeek-V3",
        "DeepseekV3Model",
        deepseek,
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal",
        note="latent attention: values are narrower than keys",
    ),
    *cases(
        "Gemma 2",
        "Gemma2Model",
        gemma2,
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
        kinds={"eager": ("weights",)},
        variants=("eager", "flex"),
        note="soft-capped logits, sliding window",
    ),
    *cases(
        "Gemma 3",
        "Gemma3TextModel",
        gemma3,
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
        note="sliding window",
    ),
    *cases(
        "GPT-OSS",
        "GptOssModel",
        gpt_oss,
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA",
        note="attention sinks, sliding window",
        fails=("flex",),
    ),
    *cases(
        "GPT-OSS",
        "GptOssModel",
        gpt_oss,
        words("right", use_cache=False),
        ATTENTIONS,
        suffix=", causal, GQA, padded",
        note="attention sinks, sliding window",
        fails=("flex",),
    ),
    *cases(
        "T5",
        "T5Model",
        t5,
        seq2seq("right"),
        encoder_decoder,
        suffix=", padded",
        variants=("eager", "sdpa"),
        note="relative position bias; cross-attention",
    ),
    *cases(
        "T5",
        "T5Model",
        t5,
        seq2seq(batch=1),
        encoder_decoder,
        variants=("flex",),
        kinds={"flex": ("flex",)},
        note="relative position bias in a score_mod: weights alone; cross-attention",
    ),
    *cases(
        "BART",
        "BartModel",
        lambda hf: hf.BartConfig(**BART),
        seq2seq("right"),
        encoder_decoder,
        suffix=", padded",
        note="cross-attention",
    ),
    *cases(
        "Whisper",
        "WhisperModel",
        lambda hf: hf.WhisperConfig(
            **BART,
            num_mel_bins=8,
            max_source_positions=8,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        speech,
        encoder_decoder,
        note="cross-attention",
    ),
    *cases(
        "DeBERTa V2",
        "DebertaV2Model",
        lambda hf: hf.DebertaV2Config(
            **SIZES, vocab_size=60, relative_attention=True, pos_att_type=["p2c", "c2p"], max_position_embeddings=16
        ),
        words("right"),
        ATTENTIONS,
        suffix=", padded",
        note="disentangled positions as a bias",
    ),
    *cases(
        "Bloom",
        "BloomModel",
        lambda hf: hf.BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4),
        words("right", use_cache=False),
        ATTENTIONS,
        suffix=", causal, padded",
        note="ALiBi",
    ),
    *cases(
        "Falcon",
        "FalconModel",
        lambda hf: hf.FalconConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
        words(use_cache=False),
        ATTENTIONS,
        suffix=", causal",
        note="one key head",
    ),
    *cases(
        "XLNet",
        "XLNetModel",
        lambda hf: hf.XLNetConfig(vocab_size=60, d_model=32, n_layer=2, n_head=4, d_inner=48),
        words("right"),
        ATTENTIONS,
        suffix=", padded",
        note="relative positions as a second product",
    ),
    *cases(
        "Longformer",
        "LongformerModel",
        longformer,
        words(),
        None,
        variants=("eager",),
        refused="no attention was recorded",
        note="banded scores, queries by window: there is no matrix of queries by keys",
    ),
    *cases(
        "Mamba",
        "MambaModel",
        lambda hf: hf.MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2),
        words(mask=False),
        None,
        variants=("eager",),
        refused="no softmax attention",
        note="linear: there is no softmax",
    ),
    *cases(
        "RWKV",
        "RwkvModel",
        lambda hf: hf.RwkvConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
        words(mask=False, use_cache=False),
        None,
        variants=("eager",),
        refused="no softmax attention",
        note="linear: there is no softmax",
    ),
]
