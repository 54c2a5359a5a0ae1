"""Tiny models of sounds with random weights, saved as the hub would serve them, and sounds to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

RATE = 16000
SAID = "the cat sat on the mat because it was tired"
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")


def tone(seconds: float, rate: int = RATE, hz: float = 440.0, level: float = 0.3) -> torch.Tensor:
    """A sine with a pause in the middle third."""
    t = torch.arange(round(seconds * rate)) / rate
    loud = ~((t > seconds / 3) & (t < 2 * seconds / 3))
    return (level * torch.sin(2 * np.pi * hz * t) * loud).float()


def save_tokenizer(folder: Path) -> Any:
    """A byte-level tokenizer that knows the words of ``SAID``, with Whisper's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [f" {SAID}"] * 8, trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=SPECIAL[0], eos_token=SPECIAL[0])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_whisper(folder: Path, seconds: int = 2, **changes: Any) -> Path:
    """Whisper's architecture: windows of ``seconds``, two layers of two heads on both sides."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    tokenizer = save_tokenizer(folder)
    end, start, plain = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    torch.manual_seed(1)
    config = WhisperConfig(
        **{
            "vocab_size": len(tokenizer), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
            "num_mel_bins": 80, "max_source_positions": 50 * seconds, "max_target_positions": 40, "init_std": 0.3,
            "decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
            "suppress_tokens": None, "begin_suppress_tokens": None, **changes,
        }
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.generation_config.no_timestamps_token_id = plain
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, chunk_length=seconds).save_pretrained(folder)
    return folder


def save_wav2vec2(folder: Path) -> Path:
    """wav2vec 2.0's encoder: frames of 20 ms from the samples themselves."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(1)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def save_spectrogram_transformer(folder: Path) -> Path:
    """AST: a spectrogram as a picture of 16 × 16 patches, ten apart."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    torch.manual_seed(1)
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_length=128,
        num_mel_bins=64,
    )
    ASTModel(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=64, max_length=128).save_pretrained(folder)
    return folder
