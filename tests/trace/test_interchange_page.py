"""The examples of docs/interchange.md run, in order, in one folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

import tokenrank
from tests.tiny import save_bert

PAGE = Path(__file__).parents[2] / "docs" / "interchange.md"
WAYS = ("from_attentions", "from_cache", "from_query_key", "load_trace")


def test_examples_of_the_page_run(tmp_path, monkeypatch):
    from transformers import BertModel

    monkeypatch.chdir(tmp_path)
    model = BertModel.from_pretrained(save_bert(tmp_path / "bert"), attn_implementation="eager").eval()
    q, k = torch.randn(2, 1, 2, 6, 4)
    names: dict[str, Any] = {"model": model, "inputs": {"input_ids": torch.randint(5, 14, (1, 6))}, "q": q, "k": k}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 3
    with torch.no_grad():
        for block in blocks:
            exec(block, names)
    assert isinstance(names["loaded"], tokenrank.Trace)
    assert names["chain"].num_tokens == 6


def test_every_way_in_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    for name in WAYS:
        assert f"tr.{name}" in text
