"""Tiny pipelines, complete and with as many layers as the experiments name, and their data in the real formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import T5Config, T5EncoderModel

from tests.conformance.diffusers_models import FLUX
from tests.diffusion import pipelines
from tests.evaluate.datasets.test_imagenet_segmentation import write_mat
from tests.evaluate.datasets.writing import write, write_grey, write_palette
from tests.evaluate.protocol_cases import block, picture
from tokenrank.evaluate.datasets.label_pictures import _COCO_LIST as COCO_LIST

IMAGES = 2
SIZE = 64
"""Long side that the pipelines get."""


def words() -> Any:
    """A tokenizer of whole words and one that is in two pieces."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = "<pad> </s> <unk> a dog cat bird background floor tree person grass face sky"
    ids = {word: number for number, word in enumerate(known.split())}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=8
    )


def save_flux(folder: Path) -> Path:
    """FLUX.1 of 19 double and 38 single blocks, 2 heads of 8."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=8, projection_dim=16, eos_token_id=1, bos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip
    t5 = T5EncoderModel(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0))
    denoiser = pipelines.made(
        "FluxTransformer2DModel",
        **FLUX | {
            "in_channels": 16, "pooled_projection_dim": 16, "joint_attention_dim": 16, "num_layers": 19,
            "num_single_layers": 38, "num_attention_heads": 2, "attention_head_dim": 8, "axes_dims_rope": (2, 2, 4),
        },
    )  # fmt: skip
    pipe = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=pipelines.autoencoder(shift_factor=0.0, scaling_factor=1.0),
        text_encoder=clip.eval(),
        tokenizer=words(),
        text_encoder_2=t5.eval(),
        tokenizer_2=words(),
        transformer=denoiser,
    )
    pipe.save_pretrained(folder)
    return folder


def save_stable_diffusion(folder: Path, scratch: Path) -> Path:
    pipelines.stable_diffusion(scratch).save_pretrained(folder)
    return folder


def save_data(root: Path) -> Path:
    """A folder as TOKENRANK_DATA names it: imagenet-segmentation, VOCdevkit, cocostuff and cityscapes."""
    sizes = [(64, 48), (48, 64)]
    pictures = [np.asarray(picture(width, height, place)) for place, (width, height) in enumerate(sizes)]
    masks = [block(height, width, slice(8, 32), slice(8, 32)) for width, height in sizes]
    folder = root / "imagenet-segmentation"
    folder.mkdir(parents=True)
    synsets = {"n02084071": "dog, domestic dog", "n01503061": "bird"}
    write_mat(folder / "gtsegs_ijcv.mat", pictures, [mask.astype(np.uint8) for mask in masks], list(synsets))
    (folder / "words.txt").write_text("".join(f"{synset}\t{names}\n" for synset, names in synsets.items()))

    voc = root / "VOCdevkit/VOC2012"
    for place, (pixels, mask) in enumerate(zip(pictures, masks, strict=True)):
        labels = np.where(mask, (12, 8)[place], 0)
        labels[0] = 255
        write(voc / f"JPEGImages/2007_{place:06d}.jpg", pixels)
        write_palette(voc / f"SegmentationClass/2007_{place:06d}.png", labels)
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/val.txt").write_text("".join(f"2007_{place:06d}\n" for place in range(IMAGES)))

    for place, (pixels, mask) in enumerate(zip(pictures, masks, strict=True)):
        key = f"{place + 1:012d}"
        write(root / f"cocostuff/images/val2017/{key}.jpg", pixels)
        write_grey(root / f"cocostuff/annotations/val2017/{key}.png", np.where(mask, 17, 156))
        city = f"frankfurt/frankfurt_000000_{place:06d}"
        write(root / f"cityscapes/leftImg8bit/val/{city}_leftImg8bit.png", pixels)
        write_grey(root / f"cityscapes/gtFine/val/{city}_gtFine_labelIds.png", np.where(mask, 26, 7))
    (root / "cocostuff/curated/val2017").mkdir(parents=True)
    (root / "cocostuff/curated/val2017" / COCO_LIST).write_text("".join(f"{k + 1:012d}\n" for k in range(IMAGES)))
    return root
