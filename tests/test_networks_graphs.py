"""Networks out of ONNX graphs: tiny ones, exported here as the wheels' were, so that the checks can be seen to fail."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr
from benchmarks.networks import clip_vit_b16, dinov2_small, graph
from benchmarks.networks.frame import Network, make
from tests.test_networks import wheel_of
from tokenrank.errors import InputError

onnx = pytest.importorskip("onnx", reason="pip install 'tokenrank[networks]'")
pytest.importorskip("onnxruntime", reason="pip install 'tokenrank[networks]'")


def exported(module: nn.Module, side: int, outputs: list[str]) -> bytes:
    """The exporter that the wheels were made with."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.randn(1, 3, side, side),),
            file,
            dynamo=False,
            input_names=["pixel_values"],
            output_names=outputs,
            dynamic_axes={"pixel_values": {0: "batch"}},
        )
    return file.getvalue()


def randomised(module: nn.Module) -> nn.Module:
    """No two tensors alike, which an exporter would merge."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data = parameter.data.normal_(0.0, 0.3, generator=generator)
    return module


def dinov2() -> tuple[nn.Module, bytes]:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14,
                          attn_implementation="eager")  # fmt: skip

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = randomised(Dinov2Model(config))
            self.decoder = nn.Linear(128, 1)

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.decoder(self.backbone(pixel_values).last_hidden_state)

    detector = Detector()
    return detector.backbone.eval(), exported(detector, 28, ["importance"])


def clip(tmp_path: Path) -> tuple[nn.Module, bytes]:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=2,
                              image_size=32, patch_size=16, projection_dim=48, attn_implementation="eager")  # fmt: skip

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            own = randomised(CLIPVisionModelWithProjection(config))
            self.vision_model, self.visual_projection = own.vision_model, own.visual_projection

        def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
            out = self.vision_model(pixel_values)
            return self.visual_projection(out.pooler_output), out.last_hidden_state

    tower, plain, quantised = Tower().eval(), tmp_path / "plain.onnx", tmp_path / "int8.onnx"
    plain.write_bytes(exported(tower, 32, ["image_embeds", "onnx::Gather_7"]))
    quantize_dynamic(plain, quantised, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return tower, quantised.read_bytes()


def in_wheel(network: Network, tmp_path: Path, content: bytes) -> tuple[Network, Path]:
    """The network, coming from a wheel with this graph."""
    file = dinov2_small.FILE if network is dinov2_small.NETWORK else clip_vit_b16.FILE
    path, wheel = wheel_of(tmp_path, {file: content})
    return replace(network, wheel=wheel), path


def changed(content: bytes, change: Callable[[Mapping[str, Any], Any], None]) -> bytes:
    """The graph after ``change(tensors by name, graph)``."""
    model = onnx.load_from_string(content)
    change({tensor.name: tensor for tensor in model.graph.initializer}, model.graph)
    return bytes(model.SerializeToString())


def by_a_hair(tensor: Any, factor: float = 1.001) -> None:
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[: max(1, values.size // 50)] *= np.asarray(factor, dtype=values.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def test_dinov2_comes_out_of_its_graph_as_it_went_in(tmp_path: Path) -> None:
    own, content = dinov2()
    network, path = in_wheel(dinov2_small.NETWORK, tmp_path, content)
    finding = make(network, tmp_path / "out", path)
    assert "4 photographs at 28 px" in finding
    model = tr.load(tmp_path / "out")
    state, found = own.state_dict(), model.module.state_dict()
    assert set(state) == set(found)
    different = [name for name in state if not torch.equal(state[name], found[name])]
    assert different == ["embeddings.mask_token"]  # no forward reads it
    assert model.module.config.num_attention_heads == 2
    assert tr.observe(tr.samples.path("chelsea"), model, size=56).grid[1] == 4


@pytest.mark.parametrize("kind", ["linear", "norm", "positions"])
def test_dinov2_with_a_weight_changed_by_a_hair_does_not_pass(tmp_path: Path, kind: str) -> None:
    _, content = dinov2()
    _, path = in_wheel(dinov2_small.NETWORK, tmp_path, content)
    with zipfile.ZipFile(path) as wheel:
        dinov2_small.convert(wheel, tmp_path)
        dinov2_small.check(wheel, tmp_path)

    def change(tensors: Mapping[str, Any], onnx_graph: Any) -> None:
        (name,) = {
            "linear": [n.input[1] for n in onnx_graph.node if n.name == "/backbone/encoder/layer.1/mlp/fc2/MatMul"],
            "norm": [n for n in tensors if n == "backbone.encoder.layer.0.norm1.bias"],
            "positions": [n for n in tensors if n.startswith("onnx::Reshape")],
        }[kind]
        by_a_hair(tensors[name])

    path, _ = wheel_of(tmp_path, {dinov2_small.FILE: changed(content, change)})
    with zipfile.ZipFile(path) as wheel, pytest.raises(InputError, match=r"differ by .*, expected at most"):
        dinov2_small.check(wheel, tmp_path)


def test_another_graph_is_refused(tmp_path: Path) -> None:
    content = exported(nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4)), 28, ["importance"])
    network, path = in_wheel(dinov2_small.NETWORK, tmp_path, content)
    with pytest.raises(InputError, match="0 tensors without a name go into Concat nodes of /backbone/embeddings/"):
        make(network, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    _, content = dinov2()

    def without_a_norm(tensors: Mapping[str, Any], onnx_graph: Any) -> None:
        for tensor in tensors.values():
            tensor.name = tensor.name.replace("backbone.encoder.layer.1.norm1", "elsewhere")
        for node in onnx_graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = name.replace("backbone.encoder.layer.1.norm1", "elsewhere")

    network, path = in_wheel(dinov2_small.NETWORK, tmp_path, changed(content, without_a_norm))
    with pytest.raises(InputError, match=r"2 missing \(encoder\.layer\.1\.norm1\.bias"):
        make(network, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_clip_is_what_its_8_bit_graph_says_with_float_products(tmp_path: Path) -> None:
    own, content = clip(tmp_path)
    network, path = in_wheel(clip_vit_b16.NETWORK, tmp_path, content)
    finding = make(network, tmp_path / "out", path)
    assert "its 13 integer products in float32" in finding  # six a layer, and the projection
    found = tr.load(tmp_path / "out").module.state_dict()
    state = {k.removeprefix("vision_model."): v for k, v in own.state_dict().items()}
    for name, values in found.items():
        expected = state[name.removeprefix("vision_model.")]
        if name.endswith("position_ids"):
            continue
        step = expected.abs().amax(-1, keepdim=True) / 127  # a channel's largest weight is 127 steps
        rounded = values.ndim == 2 and "embedding" not in name
        assert bool(((values - expected).abs() <= (0.51 * step if rounded else 0)).all()), name


def test_clip_with_a_scale_changed_by_a_hair_does_not_pass(tmp_path: Path) -> None:
    _, content = clip(tmp_path)
    _, path = in_wheel(clip_vit_b16.NETWORK, tmp_path, content)
    with zipfile.ZipFile(path) as wheel:
        clip_vit_b16.convert(wheel, tmp_path)
        clip_vit_b16.check(wheel, tmp_path)

    def change(tensors: Mapping[str, Any], onnx_graph: Any) -> None:
        node = next(n for n in onnx_graph.node if n.op_type == "MatMulInteger" and "layers.1/mlp/fc1" in n.name)
        by_a_hair(tensors[node.input[1].removesuffix("_quantized") + "_scale"], 1.01)

    path, _ = wheel_of(tmp_path, {clip_vit_b16.FILE: changed(content, change)})
    with zipfile.ZipFile(path) as wheel, pytest.raises(InputError, match=r"differ by .*, expected at most"):
        clip_vit_b16.check(wheel, tmp_path)


def test_outputs_are_cut_to_those_asked_for() -> None:
    _, content = dinov2()
    model = graph.read(content)
    graph.keep_outputs(model, [graph.last_output(model.graph, "/backbone/layernorm/")])
    assert not any("decoder" in node.name for node in model.graph.node)
    assert not any("decoder" in tensor.name for tensor in model.graph.initializer)
    assert graph.run(model, torch.randn(2, 3, 28, 28))[0].shape == (2, 5, 128)
