"""Is the network worth keeping? Its loss with and without words, and whether a classifier knows what it drew.

    python -m training.text_to_image.validate MODEL DATA --samples 2000 --out validation.json

MODEL is a pipeline's folder. The classifier is the bundled network's, which knows 200 classes: chance is 0.5 %. It sees
pictures of 32 × 32 enlarged to 128; the share of real ones of this size and these classes is printed beside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

import tokenrank

from ..data import normalise
from .network import Painter, flow_loss
from .pictures import SIDE, load_classes, mosaic, single, to_latents
from .train import CLASSES
from .words import LENGTH, Captions, class_names

ENLARGED = 128
GUIDANCE, STEPS, BATCH = 3.0, 16, 100
BUNDLED = Path(tokenrank.__file__).parent / "models" / "bundled" / "image"


def painter_of(pipe: Any) -> Painter:
    """The module that was trained, out of a pipeline."""
    painter = Painter(len(pipe.tokenizer_2))
    painter.denoiser.load_state_dict(pipe.transformer.state_dict())
    painter.text_encoder.load_state_dict(pipe.text_encoder_2.state_dict())
    return painter.eval()


@torch.no_grad()
def losses(pipe: Any, data: Path, rounds: int = 4) -> dict[str, float]:
    """Flow loss on held-out pictures and mosaics, with captions and with emptied ones, at the same noise."""
    names = [class_names(data / "classes.txt")[number] for number in CLASSES]
    captions = Captions(names, pipe.tokenizer_2.get_vocab())
    pictures, labels = load_classes(data, "val", CLASSES)
    painter, found = painter_of(pipe), {}
    for kind in ("single", "mosaic"):
        for told in (True, False):
            torch.manual_seed(1)
            total = 0.0
            for _ in range(rounds):
                other = torch.randperm(len(pictures))
                both = torch.full((len(pictures),), kind == "mosaic") & (labels != labels[other])
                mixed, _ = mosaic(pictures, pictures[other], torch.randint(6, (len(pictures),)))
                mixed = torch.where(both[:, None, None, None], mixed, single(pictures))
                ids = captions(labels, labels[other], both)
                ids = ids if told else captions(labels, labels, both, drop=1.0)
                torch.manual_seed(2)
                total += float(flow_loss(painter, to_latents(mixed), ids)) / rounds
            found[f"{kind}, {'with' if told else 'without'} words"] = round(total, 5)
    return found


def draw(pipe: Any, prompts: list[str], seed: int, steps: int = STEPS, guidance: float = GUIDANCE) -> Tensor:
    """Pictures (B, 3, 32, 32) from 0 to 1."""
    return pipe(
        prompt=prompts, negative_prompt=[""] * len(prompts), true_cfg_scale=guidance, height=SIDE, width=SIDE,
        num_inference_steps=steps, max_sequence_length=LENGTH, output_type="pt",
        generator=torch.Generator().manual_seed(seed),
    ).images  # fmt: skip


class Classifier:
    """The bundled network's classifier on CLS."""

    def __init__(self) -> None:
        self.network = AutoModel.from_pretrained(BUNDLED).float().eval()
        self.heads = {name: weight.float() for name, weight in load_file(BUNDLED / "heads.safetensors").items()}

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Probabilities (B, 200) of pictures (B, 3, H, W) from 0 to 1."""
        large = F.interpolate(pictures, (ENLARGED, ENLARGED), mode="bicubic").clamp(0, 1)
        first = self.network(normalise(large)).last_hidden_state[:, 0]
        return F.linear(first, self.heads["cls.weight"], self.heads["cls.bias"]).softmax(-1)


def accuracy(classify: Classifier, pictures: Tensor, labels: Tensor) -> float:
    """Share of pictures whose class comes first of 200."""
    right = [
        classify(some).argmax(-1) == torch.tensor(CLASSES)[label]
        for some, label in zip(pictures.split(BATCH), labels.split(BATCH), strict=True)
    ]
    return float(torch.cat(right).float().mean())


def sheet(pictures: Tensor, columns: int, enlarge: int = 3) -> Image.Image:
    """Pictures in rows, as one."""
    rows = [torch.cat(list(row), 2) for row in pictures.split(columns) if len(row) == columns]
    pixels = (torch.cat(rows, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    size = pixels.shape[1] * enlarge, pixels.shape[0] * enlarge
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path, help="a picture of the first of them, a column a class")
    given = parser.parse_args()
    pipe = diffusers.FluxPipeline.from_pretrained(given.model)
    pipe.set_progress_bar_config(disable=True)
    names = [class_names(given.data / "classes.txt")[number][0] for number in CLASSES]
    labels = torch.arange(given.samples) % len(CLASSES)
    prompts = [f"a {names[label]}" for label in labels]
    drawn = torch.cat([draw(pipe, prompts[i : i + BATCH], i) for i in range(0, given.samples, BATCH)])
    classify, (real, truth) = Classifier(), load_classes(given.data, "val", CLASSES)
    found = {
        "losses": losses(pipe, given.data),
        "samples": given.samples,
        "drawn and recognised": round(accuracy(classify, drawn, labels), 4),
        "real and recognised": round(accuracy(classify, single(real) / 2 + 0.5, truth), 4),
    }
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.sheet:
        sheet(drawn[: 4 * len(CLASSES)], len(CLASSES)).save(given.sheet)


if __name__ == "__main__":
    main()
