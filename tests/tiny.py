"""Tiny models with random weights, saved as the hub would serve them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SENTENCE = "the cat sat on the mat because it was tired"


def save_vit(folder: Path, **changes: Any) -> Path:
    """DINOv3's architecture: patch 8, two registers, three layers of two heads, pictures of 32 pixels."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    settings = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    config = DINOv3ViTConfig(
        **{**settings, "patch_size": 8, "image_size": 32, "num_register_tokens": 2, "initializer_range": 0.3, **changes}
    )
    DINOv3ViTModel(config).save_pretrained(folder)
    return save_processor(folder)


def save_processor(folder: Path, size: int = 48) -> Path:
    """How pictures are prepared, beside a model."""
    processor = {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_bert(folder: Path, words: list[str] | None = None) -> Path:
    """BERT with three layers of two heads, and a tokenizer that knows ``words``, split at spaces."""
    from transformers import BertConfig, BertModel

    vocabulary = _save_tokenizer(folder, words or SENTENCE.split())
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=vocabulary, initializer_range=0.3, **sizes)).save_pretrained(folder)
    return folder


def save_gpt2(folder: Path) -> Path:
    """GPT-2 (causal) with two layers of two heads and the tokenizer of ``save_bert``."""
    from transformers import GPT2Config, GPT2Model

    vocabulary = _save_tokenizer(folder, SENTENCE.split())
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    GPT2Model(config).save_pretrained(folder)
    return folder


def save_albert(folder: Path) -> Path:
    """ALBERT: three layers that are one module."""
    from transformers import AlbertConfig, AlbertModel

    vocabulary = _save_tokenizer(folder, SENTENCE.split())
    torch.manual_seed(1)
    sizes = {"embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    AlbertModel(AlbertConfig(vocab_size=vocabulary, intermediate_size=32, **sizes)).save_pretrained(folder)
    return folder


def _save_tokenizer(folder: Path, words: list[str]) -> int:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *words]))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, **names, model_max_length=1024).save_pretrained(folder)
    return len(vocabulary)
