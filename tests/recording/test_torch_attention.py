"""PyTorch's own attention: fused calls, nn.MultiheadAttention, nn.Transformer, FlexAttention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right, causal_upper_left
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from tokenrank.recording import Recorder

from .reference import recorded, weights_of

B, H, N, D = 2, 4, 6, 8


class Calls(nn.Module):
    """A module that makes one call of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def qkv(heads: int = H, keys: int = N) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, H, N, D), torch.randn(B, heads, keys, D), torch.randn(B, heads, keys, D)


def attended(attention: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor) -> Tensor:
    """The weights of any attention: its output for one-hot values, in float64."""
    eye = torch.eye(k.shape[-2], dtype=torch.float64).expand(*k.shape[:-1], -1)
    return attention(q.double(), k.double(), eye)


FUSED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": F.scaled_dot_product_attention,
    "keywords": lambda q, k, v: F.scaled_dot_product_attention(query=q, key=k, value=v, scale=0.1),
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "bool": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.arange(N)[:, None] >= torch.arange(N) - 1),
    "padding": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, (torch.arange(N) < 4).expand(B, 1, N, N)),
    "float": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, -torch.arange(N).to(q.dtype).expand(N, N)),
    "upper left": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal_upper_left(N, N)),
    "lower right": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal_lower_right(N, N)),
    "aten": torch.ops.aten.scaled_dot_product_attention,
}


@pytest.mark.parametrize("kind", FUSED)
def test_fused_call(kind: str) -> None:
    q, k, v = qkv()
    attention = FUSED[kind]
    out, (record,) = recorded(Calls(attention), q, k, v)
    assert torch.equal(out, attention(q, k, v))
    assert record.kind == "sdpa"
    torch.testing.assert_close(weights_of(record), attended(attention, q, k), rtol=0, atol=1e-6)


def test_grouped_heads_stay_grouped() -> None:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    q, k, v = qkv(heads=2)
    _, (record,) = recorded(Calls(attention), q, k, v)
    assert record.k is not None
    assert record.k.shape == (B, 2, N, D)
    assert record.shape == (B, H, N, N)
    torch.testing.assert_close(weights_of(record), attended(attention, q, k), rtol=0, atol=1e-6)


def test_one_key_head_and_one_batch_for_all() -> None:
    q, k, v = qkv(heads=1)
    _, (record,) = recorded(Calls(F.scaled_dot_product_attention), q, k[:1], v[:1])
    assert record.k is not None
    assert record.k.shape == (B, 1, N, D)
    torch.testing.assert_close(
        weights_of(record), attended(F.scaled_dot_product_attention, q, k[:1]), rtol=0, atol=1e-6
    )


def test_lower_right_causality_of_more_keys_than_queries() -> None:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, causal_lower_right(N, N + 3))

    q, k, v = qkv(keys=N + 3)
    _, (record,) = recorded(Calls(attention), q, k, v)
    assert not record.is_square
    torch.testing.assert_close(weights_of(record), attended(attention, q, k), rtol=0, atol=1e-6)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("options", [{}, {"kdim": 5, "vdim": 7}, {"bias": False}])
@pytest.mark.parametrize("masked", ["no", "padding", "causal", "both"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention(need_weights: bool, options: dict[str, Any], masked: str, batch_first: bool) -> None:
    module = nn.MultiheadAttention(16, H, batch_first=batch_first, **options)
    nn.init.normal_(module.in_proj_weight if not options.get("kdim") else module.q_proj_weight, std=0.5)
    shape = (B, N) if batch_first else (N, B)
    x = torch.randn(*shape, 16)
    k, v = torch.randn(*shape, options.get("kdim", 16)), torch.randn(*shape, options.get("vdim", 16))
    arguments: dict[str, Any] = {}
    if masked in ("padding", "both"):
        arguments["key_padding_mask"] = torch.tensor([[False] * N, [False] * (N - 2) + [True] * 2])
    if masked in ("causal", "both"):
        arguments["attn_mask"] = torch.ones(N, N, dtype=torch.bool).triu(1)

    def run() -> tuple[Tensor, Tensor | None]:
        return module(x, k, v, need_weights=need_weights, average_attn_weights=False, **arguments)

    plain = run()
    with Recorder(module) as recorder:
        out = run()
    recorder.check()
    assert torch.equal(plain[0], out[0])
    (record,) = recorder.records
    assert (record.kind, record.name, record.module) == ("multi_head_attention", "", "MultiheadAttention")
    assert record.shape == (B, H, N, N)
    expected = module(x, k, v, average_attn_weights=False, **arguments)[1]
    torch.testing.assert_close(weights_of(record), expected.double(), rtol=0, atol=1e-5)


def test_multi_head_attention_with_appended_keys_and_without_batch() -> None:
    module, x = nn.MultiheadAttention(16, H, add_bias_kv=True, add_zero_attn=True), torch.randn(N, 16)
    _, (record,) = recorded(module, x, x, x)
    assert record.shape == (1, H, N, N + 2)
    assert record.kind == "multi_head_attention"


@pytest.fixture
def python_path() -> Iterator[None]:
    """nn.TransformerEncoder without its C++ path, which capture switches off."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def encoder() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(16, H, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()


@pytest.mark.usefixtures("python_path")
@pytest.mark.parametrize("padded", [False, True])
def test_transformer_encoder(padded: bool) -> None:
    model, x = encoder(), torch.randn(B, N, 16)
    padding = torch.tensor([[False] * N, [False] * (N - 2) + [True] * 2]) if padded else None
    with torch.no_grad():
        expected = model(x, src_key_padding_mask=padding)
    out, records = recorded(model, x, src_key_padding_mask=padding)
    assert torch.equal(out, expected)
    assert [r.name for r in records] == ["layers.0.self_attn", "layers.1.self_attn"]
    assert all(r.shape == (B, H, N, N) for r in records)
    if padded:
        assert weights_of(records[1])[1, ..., -2:].abs().max() == 0


def test_transformer_encoder_differs_from_its_native_path_by_rounding_only() -> None:
    model, x = encoder(), torch.randn(B, N, 16)
    with torch.no_grad():
        expected = model(x)
    out, _ = recorded(model, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled()


def test_transformer_decoder_has_self_and_cross_attention() -> None:
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, H, 32, batch_first=True), 1).eval()
    _, records = recorded(model, torch.randn(B, N, 16), torch.randn(B, 3, 16))
    assert [(r.name, tuple(r.shape)) for r in records] == [
        ("layers.0.self_attn", (B, H, N, N)),
        ("layers.0.multihead_attn", (B, H, N, 3)),
    ]


ALLOWED = torch.tensor([[True] * N, [True] * 4 + [False] * 2])


FLEX: dict[str, tuple[Callable[..., Tensor] | None, Callable[..., Tensor] | None]] = {
    "plain": (None, None),
    "causal": (None, lambda b, h, i, j: i >= j),
    "padding": (None, lambda b, h, i, j: ALLOWED[b, j]),
    "alibi": (lambda score, b, h, i, j: score - 0.3 * (h + 1) * (i - j).abs(), None),
    "softcap, causal": (lambda score, b, h, i, j: torch.tanh(score), lambda b, h, i, j: i >= j),
    "in place": (lambda score, b, h, i, j: score.mul(0.5), None),
}


@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
@pytest.mark.parametrize("heads", [H, 2])
@pytest.mark.parametrize("kind", FLEX)
def test_flex_attention(kind: str, heads: int) -> None:
    score_mod, mask_mod = FLEX[kind]
    mask = None if mask_mod is None else create_block_mask(mask_mod, B, None, N, N, device="cpu")

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flex_attention(q, k, v, score_mod=score_mod, block_mask=mask, enable_gqa=heads != H)

    q, k, v = qkv(heads)
    _, (record,) = recorded(Calls(attention), q, k, v)
    assert record.kind == "flex"
    assert (record.q is None) == (score_mod is not None)
    with torch.compiler.set_stance("force_eager"):
        expected = attended(attention, q, k)
    torch.testing.assert_close(weights_of(record), expected, rtol=0, atol=1e-5)
    if kind == "plain":
        assert record.mask is None
