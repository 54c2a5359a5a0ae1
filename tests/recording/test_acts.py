"""Acts on attention: masked, kept with gradients, changed, in whatever way a model computes it; and undone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from tokenrank.errors import CaptureError
from tokenrank.recording import Act, Caller, FusedCall, KeepWeights, Recorder, acting
from tokenrank.recording.fused import flex_functions

B, H, N, D = 2, 4, 6, 8


class HideKeys(Act):
    """Nobody attends to some of the keys."""

    def __init__(self, *keys: int) -> None:
        self.hidden = torch.zeros(N, dtype=torch.bool)
        self.hidden[list(keys)] = True

    def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
        return call.hiding(self.hidden)

    def logits(self, caller: Caller, logits: Tensor) -> Tensor:
        return logits.masked_fill(self.hidden, -torch.inf)


class WrittenOut(HideKeys):
    """The same in attention that is written out."""

    def fused(self, caller: Caller, call: FusedCall) -> None:  # type: ignore[override]
        return None


class Even(Act):
    """Every query attends to all keys alike."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    def fused(self, caller: Caller, call: FusedCall) -> None:
        return None

    def weights(self, caller: Caller, weights: Tensor) -> Tensor:
        self.callers.append(caller)
        return torch.full_like(weights, 1 / weights.shape[-1])


Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def nearer(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return score - 0.3 * (i - j).abs() * (h + 1)


def causal(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return i >= j


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def block_mask() -> Any:
    return create_block_mask(causal, None, None, N, N, device="cpu")


FUSED: dict[str, Attention] = {
    "plain": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "bool": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.ones(N, N, dtype=torch.bool).tril(1)),
    "float": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.arange(float(N)).to(q).expand(N, N)),
    "lower right": lambda q, k, v: F.scaled_dot_product_attention(q[..., 2:, :], k, v, causal_lower_right(N - 2, N)),
    "grouped": lambda q, k, v: F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], scale=0.4, enable_gqa=True),
    "aten": torch.ops.aten.scaled_dot_product_attention,
    "flex": flex_attention,
    "flex, block mask": lambda q, k, v: flex_attention(q, k, v, block_mask=block_mask()),
    "flex, scores": lambda q, k, v: flex_attention(q, k, v, score_mod=nearer, scale=0.3),
    "flex, both, grouped": lambda q, k, v: flex_attention(
        q, k[:, :2], v[:, :2], score_mod=nearer, block_mask=block_mask(), enable_gqa=True
    ),
}
HAND = {"by hand": by_hand, "einsum": lambda q, k, v: torch.einsum(
    "bhqk,bhkd->bhqd", F.softmax(torch.einsum("bhqd,bhkd->bhqk", q, k) * 0.3, -1), v
)}  # fmt: skip
ALL = {**FUSED, **HAND}


def qkv(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(B, H, N, D, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k, v


def weights_of(attention: Attention, q: Tensor, k: Tensor) -> Tensor:
    """The weights of any attention: its result for one-hot values."""
    return attention(q, k, torch.eye(N, dtype=torch.float64).expand(B, H, N, N))


@pytest.mark.parametrize("way", [HideKeys, WrittenOut])
@pytest.mark.parametrize("kind", ALL)
def test_hidden_keys_get_no_weight_and_others_keep_their_ratios(kind: str, way: type[HideKeys]) -> None:
    q, k, _ = qkv()
    before = weights_of(ALL[kind], q, k)
    with acting(nn.Identity(), way(1, 4)):
        after = weights_of(ALL[kind], q, k)
    expected = before.clone()
    expected[..., [1, 4]] = 0
    expected = expected / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_kept_weights_are_in_the_graph_of_the_result(kind: str) -> None:
    q, k, v = (t.requires_grad_() for t in qkv())
    act = KeepWeights()
    with acting(nn.Identity(), act):
        out = ALL[kind](q, k, v)
    with torch.no_grad():
        expected = ALL[kind](*qkv())
        weights = weights_of(ALL[kind], *qkv()[:2])
    torch.testing.assert_close(out.detach(), expected, rtol=0, atol=1e-12)
    (kept,) = act.kept
    torch.testing.assert_close(kept.weights.detach(), weights, rtol=0, atol=1e-12)
    pull = torch.randn(out.shape, dtype=torch.float64)
    (arrived,) = torch.autograd.grad(out, kept.weights, pull, retain_graph=True)
    values = v.detach()[:, :2].repeat_interleave(2, 1) if "grouped" in kind else v.detach()
    torch.testing.assert_close(arrived, pull @ values.mT, rtol=0, atol=1e-12)  # ∂(w v) / ∂w
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


def test_gradients_through_flex_are_those_of_the_same_attention_by_hand() -> None:
    q, k, v = (t.requires_grad_() for t in qkv())
    with acting(nn.Identity(), KeepWeights()):
        out = flex_attention(q, k, v, score_mod=nearer, block_mask=block_mask())
    i = torch.arange(N)
    distance = (i[:, None] - i).abs() * torch.arange(1, H + 1)[:, None, None]
    logits = q @ k.mT / math.sqrt(D) - 0.3 * distance
    expected = logits.masked_fill(i[:, None] < i, -torch.inf).softmax(-1) @ v
    pull = torch.randn(out.shape, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(out, (q, k, v), pull), torch.autograd.grad(expected, (q, k, v), pull), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_flex_tells_the_logsumexp_and_maximum_of_what_was_done() -> None:
    # on the CPU PyTorch hands neither on, so that its operator is asked
    (operator,) = flex_functions()
    q, k, v = qkv()
    keys = torch.tensor([0, 2, 3, 5])

    def asked(k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        blocks = create_block_mask(lambda b, h, i, j: j >= 0, None, None, N, k.shape[-2], device="cpu").as_tuple()
        out: tuple[Tensor, ...] = operator(q, k, v, lambda score, *_: score, blocks, 0.3, {})
        return out

    expected = asked(k[..., keys, :], v[..., keys, :])
    for act in (HideKeys(1, 4), WrittenOut(1, 4)):
        with acting(nn.Identity(), act):
            found = asked(k, v)
        assert len(found) == len(expected) >= 2
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_query_without_keys_gets_zeros_from_flex_as_without_an_act() -> None:
    q, k, v = qkv()
    mask = create_block_mask(lambda b, h, i, j: (i > 0) & (i >= j), None, None, N, N, device="cpu")
    plain = flex_attention(q, k, v, block_mask=mask)
    with acting(nn.Identity(), HideKeys(5)):
        out = flex_attention(q, k, v, block_mask=mask)
    assert not out[..., 0, :].any()
    torch.testing.assert_close(out[..., :5, :], plain[..., :5, :], rtol=0, atol=1e-12)
    with pytest.raises(CaptureError, match="without any key"), acting(nn.Identity(), KeepWeights()):
        flex_attention(q, k, v, block_mask=mask)


def test_scores_that_hide_all_keys_leave_finite_gradients() -> None:
    q, k, v = (t.requires_grad_() for t in qkv())

    def hide_first(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return torch.where(i > 0, score, -torch.inf)

    with acting(nn.Identity(), KeepWeights()):
        out = flex_attention(q, k, v, score_mod=hide_first)
    assert not out[..., 0, :].any()
    assert all(g.isfinite().all() and g.any() for g in torch.autograd.grad(out.sum(), (q, k, v)))


def test_flex_still_refuses_gradients_on_the_cpu_outside_of_the_block() -> None:
    q, k, v = (t.requires_grad_() for t in qkv())
    with acting(nn.Identity(), KeepWeights()):
        assert q.requires_grad
        flex_attention(q, k, v)
        with Recorder(nn.Identity()):
            assert flex_attention(q, k, v).requires_grad
    with pytest.raises(NotImplementedError, match="backward on CPU"):
        flex_attention(q, k, v)


@pytest.mark.parametrize("kind", ALL)
def test_weights_can_be_replaced(kind: str) -> None:
    q, k, v = qkv()
    act = Even()
    with acting(nn.Identity(), act):
        out = ALL[kind](q, k, v)
    if "grouped" in kind:
        v = v[:, :2].repeat_interleave(2, 1)
    torch.testing.assert_close(out, v.mean(-2, keepdim=True).expand(out.shape), rtol=0, atol=1e-12)
    expected = "flex" if "flex" in kind else "eager" if kind in HAND else "sdpa"
    assert [caller.kind for caller in act.callers] == [expected]


@pytest.mark.parametrize("kind", ALL)
def test_an_act_that_leaves_all_alone_changes_no_bit(kind: str) -> None:
    q, k, v = (t.float() for t in qkv())
    plain = ALL[kind](q, k, v)
    with acting(nn.Identity(), Act()):
        assert torch.equal(ALL[kind](q, k, v), plain)
    with Recorder(nn.Identity()):
        assert torch.equal(ALL[kind](q, k, v), plain)
    assert torch.equal(ALL[kind](q, k, v), plain)


def test_single_heads_in_two_dimensions_are_followed() -> None:
    q, k, v = qkv()
    act, even = KeepWeights(), Even()
    for a in (act, even):
        with acting(nn.Identity(), a):
            out = by_hand(q[0, 0], k[0, 0], v[0, 0])
    assert [w.weights.shape for w in act.kept] == [(N, N)]
    torch.testing.assert_close(out, v[0, 0].mean(0).expand(N, D))


def test_probabilities_of_a_classifier_are_left_alone() -> None:
    act = Even()
    with acting(nn.Identity(), act):
        torch.randn(2, 5).softmax(-1)
        torch.randn(2, 3, 5).softmax(1)
    assert act.callers == []


class Self(nn.Module):
    """``nn.MultiheadAttention`` to itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True, **options)

    def forward(self, x: Tensor, need_weights: bool = False) -> Any:
        return self.inner(x, x, x, need_weights=need_weights, average_attn_weights=False)


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention(need_weights: bool) -> None:
    model, x = Self().eval(), torch.randn(2, N, 16)
    with torch.no_grad():
        plain = model(x, need_weights)[0]
        weights = model(x, True)[1]
        expected = weights.index_fill(-1, torch.tensor([1, 4]), 0)
        with acting(model, HideKeys(1, 4)):
            _, masked = model(x, True)
            hidden = model(x, need_weights)[0]
    torch.testing.assert_close(masked, expected / expected.sum(-1, keepdim=True))
    act = KeepWeights()
    with acting(model, act):
        out = model(x, need_weights)[0]
    torch.testing.assert_close(out.detach(), plain)
    (kept,) = act.kept
    assert kept.name == "inner"
    torch.testing.assert_close(kept.weights.detach().reshape(weights.shape), weights)
    assert torch.autograd.grad(out.sum(), kept.weights)[0].abs().max() > 0
    assert not torch.allclose(hidden, plain, atol=1e-3)
    even = Even()
    with torch.no_grad(), acting(model, even):
        out = model(x, need_weights)[0]
    assert [(c.name, c.kind) for c in even.callers] == [("inner", "multi_head_attention")]
    torch.testing.assert_close(out, out[:, :1].expand(out.shape))


def timm_vit(fused: bool) -> nn.Module:
    vision = pytest.importorskip("timm").models.vision_transformer
    model = vision.VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=4, num_classes=3)
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model.double().eval()


def hf_vit(attention: str) -> nn.Module:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=16, image_size=16, patch_size=8,
        attn_implementation=attention,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False).double().eval()


def tokens_of(model: nn.Module, x: Tensor) -> Tensor:
    out = model.forward_features(x) if hasattr(model, "forward_features") else model(x).last_hidden_state
    assert isinstance(out, Tensor)
    return out


VARIANTS: dict[str, tuple[Callable[[], nn.Module], ...]] = {
    "timm": (lambda: timm_vit(False), lambda: timm_vit(True)),
    "transformers": tuple((lambda a=a: hf_vit(a)) for a in ("eager", "sdpa", "flex_attention")),  # type: ignore[misc]
}


@pytest.mark.parametrize("library", VARIANTS)
def test_models_are_the_same_however_they_compute_attention(library: str) -> None:
    first, *others = (build() for build in VARIANTS[library])
    for other in others:
        other.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    hidden = HideKeys(1, 4)
    hidden.hidden = hidden.hidden[:5]  # CLS and four patches
    answers, kept = [], []
    for model in (first, *others):
        act = KeepWeights()
        with acting(model, act):
            out = tokens_of(model, x)
        gradients = torch.autograd.grad(out[:, 0].sum(), [attention.weights for attention in act.kept])
        with torch.no_grad(), acting(model, hidden):
            answers.append((out.detach(), tokens_of(model, x), *gradients))
        with torch.no_grad(), Recorder(model) as recorder:
            plain = tokens_of(model, x)
        torch.testing.assert_close(out.detach(), plain, rtol=0, atol=1e-6)
        assert not torch.allclose(answers[-1][1], plain, atol=1e-3)
        assert [attention.name for attention in act.kept] == [record.name for record in recorder.records]
        kept.append([attention.weights.detach() for attention in act.kept])
    for answer, weights in zip(answers[1:], kept[1:], strict=True):
        for a, b in zip((*answer, *weights), (*answers[0], *kept[0]), strict=True):
            # transformers' eager softmax rounds to float32
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("fused", [False, True])
def test_one_layer_is_chosen_by_its_name(fused: bool) -> None:
    class Blinkers(Act):
        def fused(self, caller: Caller, call: FusedCall) -> FusedCall | None:
            return None if caller.name == "blocks.1.attn" else call

        def weights(self, caller: Caller, weights: Tensor) -> Tensor:
            alone = torch.eye(weights.shape[-1], dtype=weights.dtype).expand_as(weights)
            return alone if caller.name == "blocks.1.attn" else weights

    model = timm_vit(fused)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        with acting(model, Blinkers()):
            out = tokens_of(model, x)
        tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
        tokens = model.blocks[0](tokens)
        block = model.blocks[1]
        tokens = tokens + block.attn.proj(block.attn.qkv(block.norm1(tokens))[..., 32:])  # the values themselves
        expected = model.norm(tokens + block.mlp(block.norm2(tokens)))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_recorder_around_the_block_sees_what_was_done_and_one_inside_what_was_asked_for() -> None:
    model, x = Self().eval(), torch.randn(2, N, 16)
    act = HideKeys(2)
    with torch.no_grad():
        with Recorder(model) as plain:
            model(x)
        with Recorder(model) as around, acting(model, act), Recorder(model) as inside:
            model(x)
    weights = [recorder.records[0].to_dense() for recorder in (plain, around, inside)]
    assert torch.equal(weights[2], weights[0])
    expected = weights[0].index_fill(-1, torch.tensor(2), 0)
    torch.testing.assert_close(weights[1], expected / expected.sum(-1, keepdim=True))


def test_blocks_may_be_nested() -> None:
    q, k, v = qkv()
    with acting(nn.Identity(), HideKeys(0)):
        both = F.scaled_dot_product_attention(q, k, v)
    act = KeepWeights()
    with acting(nn.Identity(), act), acting(nn.Identity(), HideKeys(0)):
        out = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(out, both, rtol=0, atol=1e-12)
    assert not act.kept[0].weights[..., 0].any()


def test_nothing_stays_patched_and_errors_of_an_act_reach_the_caller() -> None:
    class Broken(Act):
        def fused(self, caller: Caller, call: FusedCall) -> FusedCall:
            raise ZeroDivisionError(caller.name)

    model, x = Self().eval(), torch.randn(2, N, 16)
    functions = F.scaled_dot_product_attention, F.softmax, torch.softmax, F.multi_head_attention_forward
    with torch.no_grad():
        plain = model(x)[0]
    with pytest.raises(ZeroDivisionError, match="inner"), acting(model, Broken()):
        model(x)
    with acting(model, KeepWeights()):
        model(x)
    assert (F.scaled_dot_product_attention, F.softmax, torch.softmax, F.multi_head_attention_forward) == functions
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with torch.no_grad():
        assert torch.equal(model(x)[0], plain)


def test_act_is_let_go_without_the_collector() -> None:
    import gc
    import weakref

    q, k, v = (t.requires_grad_() for t in qkv())
    gc.collect()
    gc.disable()
    try:
        act = KeepWeights()
        with acting(nn.Identity(), act):
            out = F.scaled_dot_product_attention(q, k, v)
        gone = weakref.ref(act), weakref.ref(act.kept[0].weights)
        del act, out
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_dropout_is_refused_by_name() -> None:
    model, x = Self(dropout=0.5).train(), torch.randn(2, N, 16)
    with pytest.raises(CaptureError, match=r"'inner' runs with dropout 0\.5"), acting(model, KeepWeights()):
        model(x)
