"""What a model says of itself, in a line and in a notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

from tokenrank.models import Model, load

from .cases import TINY


def test_a_picture_model() -> None:
    model = load("bundled")
    assert repr(model) == "Model('bundled', image, 5.4 M parameters, float32 on cpu)"
    page = model._repr_html_()
    for words in ("Model bundled", "128 × 128 pixels (other sizes, too)", "8 × 8", "cls 1, registers 4, image 16 × 16"):
        assert words in page, words


def test_a_text_model(save: Any, tokenizer: Any) -> None:
    config = tf.BertConfig(**TINY, vocab_size=len(tokenizer), max_position_embeddings=12)
    model = load(save(tf.BertModel(config), tokenizer=tokenizer))
    page = model._repr_html_()
    assert "at most 12 tokens" in page
    assert "text" in repr(model)
    assert "pixels" not in page


@pytest.mark.parametrize("name", ["<script>", "a\n\x1b[31m", "x" * 3000])
def test_hostile_names(name: str) -> None:
    model = replace(load("bundled"), name=name)
    assert repr(model).isprintable()
    assert len(repr(model)) < 400
    assert "<script>" not in model._repr_html_()
    assert "\x1b" not in model._repr_html_()


def test_a_module_without_weights() -> None:
    model = Model("none", nn.Identity(), "image")
    assert repr(model) == "Model('none', image, 0 parameters, no weights)"
    assert "no weights" in model._repr_html_()


def test_nothing_runs() -> None:
    model = load("bundled")
    runs: list[Any] = []
    model.module.register_forward_hook(lambda *_: runs.append(1))
    model._repr_html_()
    assert not runs
    assert torch.get_default_dtype() == torch.float32
