"""Make a pipeline of a run: the folder that ``FluxPipeline`` reads; denoiser and autoencoder in half precision.

    python -m training.text_to_image.export DATA RUN AUTOENCODER OUT

Every part is a class of diffusers or transformers, unchanged. The first text encoder, whose one vector FLUX adds to the
time, is a CLIP of one layer that always gives zero: what the denoiser knows of the words came through attention.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from .network import POOLED, Painter
from .train import CLASSES
from .words import LENGTH, class_names, make_tokenizer


def silent_encoder(vocabulary: int) -> CLIPTextModel:
    """A CLIP text encoder whose pooled vector is zero, whatever the text."""
    torch.manual_seed(0)
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=POOLED, intermediate_size=POOLED, num_hidden_layers=1,
            num_attention_heads=1, max_position_embeddings=LENGTH, projection_dim=POOLED, eos_token_id=1,
            bos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip
    last = next(m for name, m in encoder.named_modules() if name.endswith("final_layer_norm"))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return encoder


def make_pipeline(data: Path, run: Path, autoencoder: Path) -> tuple[Any, dict[str, Any]]:
    """The pipeline of the averaged weights of a run, and what was done."""
    names = [class_names(data / "classes.txt")[number] for number in CLASSES]
    tokenizer = make_tokenizer(names)
    kept = torch.load(run / "checkpoint.pt", weights_only=True)
    painter = Painter(len(tokenizer))
    painter.load_state_dict(kept["average"])
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=diffusers.AutoencoderTiny.from_pretrained(autoencoder),
        text_encoder=silent_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=painter.text_encoder,
        tokenizer_2=make_tokenizer(names),
        transformer=painter.denoiser,
    )
    steps, seconds = kept["counts"]
    facts = {
        "classes": dict(zip(CLASSES, names, strict=True)),
        "recipe": kept["recipe"],
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "weights": sum(weight.numel() for weight in painter.parameters()),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
    return pipe, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "run", "autoencoder", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    pipe, facts = make_pipeline(given.data, given.run, given.autoencoder)
    pipe.transformer.half()
    pipe.vae.half()
    pipe.save_pretrained(
        given.out
    )  # text encoders as they are: transformers keeps a folder's type, diffusers widens it
    for config in given.out.rglob("config.json"):  # which say where their weights came from, on this machine
        told = {k: v for k, v in json.loads(config.read_text(encoding="utf-8")).items() if k != "_name_or_path"}
        config.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (given.out / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
