"""Tokenizers of the classes that pipelines use, each of a few pieces, and tiny text encoders for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = ("a german and a school bus", "system user assistant the image", "a photo of a caterpillar on a sofa")
CLIP_WORDS = ("a", "german", "she", "and", "school", "bus", "cat", "sofa")
T5_PIECES = ("▁a", "▁german", "▁she", "pher", "▁and", "▁school", "▁bus", "▁cat", "er", "pillar", "▁sof")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{% for m in messages %}{% set text = m['content'][0]['text'] %}{% if m['role'] == 'system' %}"
    "[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"
)
BRACKETS = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")


@cache
def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces and merges of all bytes and parts of the corpus."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=310, initial_alphabet=sorted(alphabet), show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def qwen(length: int = 600) -> Any:
    """Byte-level, as of Qwen2.5-VL and Qwen3."""
    vocab, merges = byte_level()
    marks = ["<|im_start|>", "<|im_end|>"]
    made = hf.Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=length, additional_special_tokens=marks)
    made.chat_template = CHAT
    return made


def mistral() -> Any:
    """A processor of pictures and texts, byte-level, padded on the left, as FLUX.2's."""
    vocab, merges = byte_level()
    inner = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        padding_side="left", additional_special_tokens=list(BRACKETS),
    )  # fmt: skip
    return hf.PixtralProcessor(image_processor=hf.PixtralImageProcessor(), tokenizer=words, chat_template=MISTRAL_CHAT)


def t5(length: int = 24) -> Any:
    """SentencePiece, ``▁`` where a word begins."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(piece, -3.0) for piece in T5_PIECES] + [(c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz,.-'"]
    return hf.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


def clip(folder: Path, length: int = 16, words: Sequence[str] = CLIP_WORDS) -> Any:
    """Byte-pairs, ``</w>`` where a word ends; ``words`` are one token each."""
    letters = "abcdefghijklmnopqrstuvwxyz,.-'"
    pieces, merges = [*letters, *(letter + "</w>" for letter in letters)], []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.append(parts[0])
    pieces = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]), "utf-8")
    return hf.CLIPTokenizer.from_pretrained(folder, model_max_length=length)


def whole_words() -> Any:
    """Every word is one token, as that of the small FLUX."""
    names = ["<pad>", "</s>", "<unk>", "a", "and", "german", "shepherd", "school", "bus"]
    model = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=12
    )


def clip_encoder(words: Any, projected: bool = False) -> Any:
    torch.manual_seed(0)
    config = hf.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=int(words.model_max_length), projection_dim=16, bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )  # fmt: skip
    return (hf.CLIPTextModelWithProjection if projected else hf.CLIPTextModel)(config).eval()


def t5_encoder(words: Any, width: int = 16) -> Any:
    torch.manual_seed(0)
    config = hf.T5Config(vocab_size=len(words), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return hf.T5EncoderModel(config).eval()


def decoder(words: Any, layers: int = 2) -> Any:
    """A language model of 16 channels, in the place of those of FLUX.2, Qwen-Image and Z-Image."""
    torch.manual_seed(0)
    config = hf.Qwen3Config(
        vocab_size=len(getattr(words, "tokenizer", words)), hidden_size=16, intermediate_size=16,
        num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2, head_dim=8, use_cache=False,
    )  # fmt: skip
    return hf.Qwen3ForCausalLM(config).eval()


def seeing_decoder(words: Any) -> Any:
    """Qwen2.5-VL, Qwen-Image's own, which could see, too."""
    torch.manual_seed(0)
    seeing = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16}
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    reading = {
        "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1200,
        "rope_parameters": rope, "rope_scaling": rope,
    }  # fmt: skip
    config = hf.Qwen2_5_VLConfig(text_config=reading, vision_config=seeing)
    return hf.Qwen2_5_VLForConditionalGeneration(config).eval()
