"""Features of the patches: keys, queries, values and block outputs of real architectures against their own outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.errors import CaptureError, InputError, LayoutError

from . import own_modules, tiny

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8, "initializer_range": 0.2,
}  # fmt: skip


def _dinov3() -> nn.Module:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    return DINOv3ViTModel(DINOv3ViTConfig(num_register_tokens=4, **SIZES))


def _dinov2() -> nn.Module:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {k: v for k, v in SIZES.items() if k != "intermediate_size"}
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=2, **sizes))


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**SIZES))


def _clip() -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return CLIPVisionModel(CLIPVisionConfig(**{**SIZES, "initializer_range": 0.3, "initializer_factor": 3.0}))


def _beit() -> nn.Module:
    from transformers import BeitConfig, BeitModel

    return BeitModel(BeitConfig(**SIZES))


def _one_layer() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**{**SIZES, "num_hidden_layers": 1}))


def _seen(make: Callable[[], nn.Module], size: tuple[int, int] = (32, 32)) -> tuple[tr.Observation, dict[str, Tensor]]:
    torch.manual_seed(0)
    module = make().eval()
    inputs = {"pixel_values": torch.randn(1, 3, *size)}
    return tr.observe(module, inputs=inputs), inputs


@pytest.mark.parametrize("make", [_dinov3, _dinov2, _vit, _clip, _beit, _one_layer], ids=lambda m: m.__name__[1:])
def test_block_outputs_are_the_hidden_states_of_transformers(make: Callable[[], nn.Module]) -> None:
    seen, inputs = _seen(make)
    captured: dict[str, Tensor] = {}
    module = seen.model.module
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList)]
    blocks = next(m for m in lists if len(m) == len(seen.layers))
    for place, block in enumerate(blocks):
        block.register_forward_hook(
            lambda _, __, out, place=place: captured.update({place: out if isinstance(out, Tensor) else out[0]})
        )
    with torch.no_grad():
        states = module(**inputs, output_hidden_states=True).hidden_states
    expected = dict(captured)
    assert len(seen.layers) == len(expected)
    patches = slice(seen.patches.start, seen.patches.stop)
    for layer in range(len(seen.layers)):
        found = seen.features(layer, "h")
        assert found.shape == (16, 32)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected[layer][0, patches])
        if layer + 1 < len(seen.layers):  # the last hidden state of some has the final norm in it
            assert torch.equal(found, states[layer + 1][0, patches])


def test_block_outputs_are_the_intermediate_layers_of_timm() -> None:
    torch.manual_seed(0)
    module = timm.create_model("vit_small_patch16_224", img_size=64, depth=4, embed_dim=48, num_heads=3).eval()
    pixels = torch.randn(1, 3, 64, 64)
    seen = tr.observe(module, inputs=[pixels])
    with torch.no_grad():
        expected = module.get_intermediate_layers(pixels, n=range(4), norm=False)
    for layer in range(4):
        assert torch.equal(seen.features(layer, "h"), expected[layer][0])


@pytest.mark.parametrize(
    "name", ["vit_small_plus_patch16_dinov3", "vit_base_patch16_rope_reg1_gap_256", "eva02_tiny_patch14_224",
             "deit3_small_patch16_224", "parallel"],
)  # fmt: skip
def test_blocks_of_timm_are_found(name: str) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"depth": 2, "embed_dim": 64, "num_heads": 2, "img_size": 64}
    if name == "parallel":  # attention and feed-forward side by side
        sizes["block_fn"] = timm.models.vision_transformer.ParallelScalingBlock
        name = "vit_small_patch16_224"
    if name.startswith("eva02"):
        sizes["img_size"] = 56
    module = timm.create_model(name, **sizes).eval()
    outputs: list[Tensor] = []
    for block in module.blocks:
        block.register_forward_hook(lambda _, __, out: outputs.append(out))
    seen = tr.observe(module, inputs=[torch.randn(1, 3, sizes["img_size"], sizes["img_size"])])
    found = [seen.features(layer, "h") for layer in range(2)]
    patches = slice(seen.patches.start, seen.patches.stop)
    for layer in range(2):
        assert torch.equal(found[layer], outputs[-2:][layer][0, patches])


@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_values_are_those_of_the_projection(how: str) -> None:
    def make() -> nn.Module:
        module = _dinov3()
        module.set_attn_implementation(how)
        return module

    seen, inputs = _seen(make)
    outputs: list[Tensor] = []
    for name, part in seen.model.module.named_modules():
        if name.endswith("attention.v_proj"):
            part.register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad():
        seen.model.module(**inputs)
    for layer, expected in enumerate(outputs[:3]):
        torch.testing.assert_close(seen.features(layer, "v"), expected[0, 5:], rtol=0, atol=0)


@pytest.mark.parametrize("how", ["sdpa", "einsum", "hand"])
def test_values_of_own_modules(how: str) -> None:
    torch.manual_seed(0)
    module = own_modules.Pictures(how, cls=True).eval()
    pixels = torch.randn(1, 3, 32, 40)
    qkv: list[Tensor] = []
    module.blocks[1].attention.qkv.register_forward_hook(lambda _, __, out: qkv.append(out))
    seen = tr.observe(module, inputs=[pixels])
    q, k, v = (seen.features(1, what) for what in ("q", "k", "v"))  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat([q, k, v], -1), qkv[0][0, 1:])


class _Written(nn.Module):
    """Attention whose product with the values is written in one of many ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.qkv, self.out = how, nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, 2, 8).permute(2, 0, 3, 1, 4)
        weights = F.dropout((q @ k.mT).softmax(-1), 0.0)
        if self.how == "transposed":
            seen = (v.mT @ weights.mT).mT
        elif self.how == "bmm":
            seen = torch.bmm(weights.flatten(0, 1), v.flatten(0, 1)).unflatten(0, (b, 2))
        elif self.how == "tokens first":
            seen = torch.einsum("bhij,bjhd->bihd", weights, v.transpose(1, 2)).transpose(1, 2)
        elif self.how == "values first":
            seen = torch.einsum("bhcj,bhij->bhic", v.mT, weights)
        else:  # a sum of products that nobody follows
            seen = (weights[..., None] * v[:, :, None]).sum(-2)
        return self.out(seen.transpose(1, 2).flatten(2))


def _pictures_with(how: str) -> tuple[tr.Observation, list[Tensor]]:
    torch.manual_seed(0)
    module = own_modules.Pictures().eval()
    for block in module.blocks:
        block.attention = _Written(how)
    qkv: list[Tensor] = []
    module.blocks[0].attention.qkv.register_forward_hook(lambda _, __, out: qkv.append(out))
    return tr.observe(module.eval(), inputs=[torch.randn(1, 3, 32, 40)]), qkv


@pytest.mark.parametrize("how", ["transposed", "bmm", "tokens first", "values first"])
def test_values_however_the_product_is_written(how: str) -> None:
    seen, qkv = _pictures_with(how)
    torch.testing.assert_close(seen.features(0, "v"), qkv[0][0, :, 32:], rtol=0, atol=0)


def test_values_that_were_not_seen_are_refused() -> None:
    seen, _ = _pictures_with("sum")
    with pytest.raises(CaptureError, match=r"values of layer 'blocks.0.attention' were not seen.*what='h'"):
        seen.features(0, "v")
    assert seen.features(0, "h").shape == (20, 16)


def test_multi_head_attention_of_torch() -> None:
    torch.manual_seed(0)
    module = own_modules.torchvision_vit().eval()
    outputs: list[Tensor] = []
    for layer in module.encoder.layers:
        layer.register_forward_hook(lambda _, __, out: outputs.append(out))
    side = module.image_size
    seen = tr.observe(module, inputs=[torch.randn(1, 3, side, side)])
    for layer in range(len(seen.layers)):
        found = seen.features(layer, "h")
        assert torch.equal(found, outputs[-len(seen.layers) :][layer][0, 1:])
        assert seen.features(layer, "v").shape == seen.features(layer, "k").shape


class _Loose(nn.Module):
    """Blocks that are no modules of their own: attention and feed-forward in one list, residuals outside."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        parts = [[own_modules.Attention("sdpa"), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))]]
        self.layers = nn.ModuleList([nn.ModuleList(pair) for pair in parts * 2])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        for attention, feed_forward in self.layers:
            x = x + attention(x)
            x = x + feed_forward(x)
        return x


def test_attention_without_a_block_is_refused_for_block_outputs_alone() -> None:
    seen = tr.observe(_Loose().eval(), inputs=[torch.randn(1, 3, 32, 32)])
    with pytest.raises(CaptureError, match=r"no block was found around layer .*expected \(1, 16, d\); take what='v'"):
        seen.features(0, "h")
    assert seen.features(0, "v").shape == (16, 16)


class _Merging(own_modules.Block):
    """A block that returns half as many tokens as its attention saw."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(1, (-1, 2)).mean(2)


def test_another_grid_than_the_attentions_is_named() -> None:
    torch.manual_seed(0)
    module = own_modules.Pictures().eval()
    module.blocks[0] = _Merging("sdpa")
    seen = tr.observe(module, inputs=[torch.randn(1, 3, 32, 32)])
    with pytest.raises(LayoutError, match=r"'blocks.0' around .* returns \(1, 8, 16\), another grid .*16 tokens"):
        seen.features(0, "h")


def test_windows_are_refused() -> None:
    torch.manual_seed(0)
    seen = tr.observe(own_modules.torchvision_swin().eval(), inputs=[torch.randn(1, 3, 64, 64)])
    for what in ("k", "v", "h"):
        with pytest.raises((CaptureError, LayoutError)):
            seen.features(0, what)  # type: ignore[arg-type]


def test_what_was_captured_before_has_keys_alone(tmp_path: Path) -> None:
    model = tr.load(tiny.save_vit(tmp_path))
    picture = tr.samples.path("coffee")
    with tr.capture(model) as trace:
        model.forward(model.prepare(picture))
    before = tr.observe(trace)
    assert torch.equal(before.features(1, "k"), tr.observe(picture, model).features(1, "k"))
    for what in ("v", "h"):
        with pytest.raises(
            InputError, match=r"another forward.*captured before; .*tr\.observe\(source, model=…\).*what='k'"
        ):
            before.features(1, what)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"give tr\.observe its trace"):
        tr.observe(trace[0]).features(0, "h")


def test_one_forward_more_for_all_layers_and_none_where_it_is_not_asked(tmp_path: Path) -> None:
    model = tr.load(tiny.save_vit(tmp_path))
    runs: list[int] = []
    hooks = len(model.module._forward_hooks)
    handle = model.module.register_forward_hook(lambda *_: runs.append(1))
    seen = tr.observe(tr.samples.path("coffee"), model)
    seen.features(0, "k"), seen.features(1, "q")
    assert len(runs) == 1
    seen.features(0, "h"), seen.features(1, "h"), seen.features(2, "v")
    assert len(runs) == 2
    handle.remove()
    for part in model.module.modules():
        assert not part._forward_pre_hooks
        assert len(part._forward_hooks) == hooks if part is model.module else not part._forward_hooks


def test_hooks_are_gone_after_an_error() -> None:
    from tokenrank.recording import keeping_states

    module = own_modules.Pictures()
    module.blocks[1] = own_modules.Broken()
    with pytest.raises(Exception), keeping_states(module):  # noqa: B017, PT011
        module(torch.randn(1, 3, 32, 32))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_another_what_is_refused(tmp_path: Path) -> None:
    seen = tr.observe(tr.samples.path("coffee"), tr.load(tiny.save_vit(tmp_path)))
    with pytest.raises(InputError, match=r"what = 'z', expected one of 'k' \(keys\).*'h' \(block outputs\)"):
        seen.features(0, "z")  # type: ignore[arg-type]


def test_tokens_of_a_text(tmp_path: Path) -> None:
    model = tr.load(tiny.save_bert(tmp_path))
    seen = tr.observe(tiny.SENTENCE, model)
    with torch.no_grad():
        states = model.module(**seen.inputs, output_hidden_states=True).hidden_states
    for layer in range(3):
        words = seen.layout.indices("content")
        assert torch.equal(seen.features(layer, "h"), states[layer + 1][0, words])


def test_a_layer_that_runs_several_times() -> None:
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(0)
    module = AlbertModel(AlbertConfig(vocab_size=50, embedding_size=16, hidden_size=32, num_hidden_layers=3,
                                      num_attention_heads=2, intermediate_size=48)).eval()  # fmt: skip
    inputs = {"input_ids": torch.arange(2, 12)[None]}
    seen = tr.observe(module, inputs=inputs)
    with torch.no_grad():
        states = module(**inputs, output_hidden_states=True).hidden_states
    for layer in range(3):
        assert torch.equal(seen.features(layer, "h"), states[layer + 1][0])


def test_shared_key_heads_are_there_once() -> None:
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    for how in ("sdpa", "eager"):
        config = Qwen2Config(vocab_size=50, num_key_value_heads=2, attn_implementation=how, **sizes)
        seen = tr.observe(Qwen2Model(config).eval(), inputs={"input_ids": torch.arange(2, 12)[None]})
        assert seen.features(0, "k").shape == seen.features(0, "v").shape == (10, 16)
        assert seen.features(0, "q").shape == (10, 32)


@pytest.mark.parametrize("what", ["k", "q", "v", "h"])
def test_rows_are_in_the_order_of_the_layout(what: Any) -> None:
    seen, inputs = _seen(_vit)
    by_columns = [4 * (k % 4) + k // 4 for k in range(16)]
    layout = tr.TokenLayout({"cls": 1, "image": 16}, {"image": (4, 4)}, order=(0, *(1 + i for i in by_columns)))
    turned = tr.observe(seen.model.module, inputs=inputs, layout=layout)
    torch.testing.assert_close(turned.features(1, what), seen.features(1, what)[by_columns])
    alike = seen.features_chain(1, what, tau=0.1).to_dense()[by_columns][:, by_columns]
    torch.testing.assert_close(turned.features_chain(1, what, tau=0.1).to_dense(), alike)
    heads = seen.head_chains(1).to_dense()[:, by_columns][:, :, by_columns]
    torch.testing.assert_close(turned.head_chains(1).to_dense(), heads)  # chains have the same order
