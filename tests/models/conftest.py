from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .cases import WORDS, Seen


class _Watch(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in (F.conv2d, torch.conv2d):
            self.seen.grids.append((out.shape[-2], out.shape[-1]))
        if func is F.scaled_dot_product_attention:
            self.seen.queries.append((args[0] if args else kwargs["query"]).clone())
        return out


@pytest.fixture
def watch() -> Callable[..., Seen]:
    """Run ``model(**inputs)`` without gradients and tell what was seen."""

    def run(model: nn.Module, **inputs: Any) -> Seen:
        mode = _Watch()
        with torch.no_grad(), mode:
            model(**inputs)
        return mode.seen

    return run


@pytest.fixture
def bound() -> Callable[..., dict[str, Any]]:
    """Inputs as ``find_layout`` gets them: tensors of whole numbers, shapes of the others."""

    def bind(**inputs: Any) -> dict[str, Any]:
        return {k: v.shape if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()}

    return bind


@pytest.fixture
def tokenizer() -> Any:
    """A WordPiece tokenizer of thirteen words, with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=16,
    )


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a model of transformers as a folder, with a preprocessor_config.json or a tokenizer."""

    def write(model: Any, processor: dict[str, Any] | None = None, tokenizer: Any = None) -> Path:
        folder = tmp_path / "model"
        model.save_pretrained(folder)
        if processor is not None:
            (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return folder

    return write
