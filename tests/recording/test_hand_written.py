"""Attention that people write by hand: q, k, scale and mask are found again, or the weights alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenrank.recording import Recorder

from .reference import recorded, weights_of

B, H, N, D = 2, 3, 7, 8
CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()
SLOPES = torch.tensor([0.5, 0.25, 0.125]).view(H, 1, 1)
DISTANCE = (torch.arange(N)[:, None] - torch.arange(N)).abs().float()

Scores = Callable[[Tensor, Tensor], Tensor]


class Attention(nn.Module):
    """Self-attention around a function from q, k (B, H, N, d) to the argument of the softmax."""

    def __init__(self, scores: Scores, softmax: Callable[[Tensor], Tensor] = lambda x: x.softmax(-1)) -> None:
        super().__init__()
        self.qkv = nn.Linear(H * D, 3 * H * D)
        nn.init.normal_(self.qkv.weight, std=0.4)
        self.scores, self.softmax = scores, softmax
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(B, -1, 3, H, D).permute(2, 0, 3, 1, 4)
        weights = self.softmax(self.scores(q, k))
        self.seen = weights.detach().clone()
        return (weights.view(B, H, *weights.shape[-2:]).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def masked_in_place(q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1)
    scores /= math.sqrt(D)
    scores.masked_fill_(~CAUSAL, float("-inf"))
    return scores


def added_in_place(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.matmul(q, k.mT).mul_(D**-0.5)
    scores += torch.where(CAUSAL, 0.0, -1e9)
    scores -= SLOPES * DISTANCE
    return scores


def folded(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.bmm(q.reshape(B * H, N, D), k.reshape(B * H, N, D).transpose(1, 2))
    scores = scores.view(B, H, N, N) / math.sqrt(D) - SLOPES * DISTANCE
    return scores.view(B * H, N, N)


def empty_baddbmm(q: Tensor, k: Tensor) -> Tensor:
    empty = torch.empty(B * H, N, N)
    return torch.baddbmm(empty, q.reshape(B * H, N, D), k.reshape(B * H, N, D).mT, beta=0, alpha=D**-0.5)


def biased_baddbmm(q: Tensor, k: Tensor) -> Tensor:
    bias = (-SLOPES * DISTANCE).expand(B, H, N, N).reshape(B * H, N, N)
    scores = bias.baddbmm(batch1=q.reshape(B * H, N, D), batch2=k.reshape(B * H, N, D).mT, beta=2.0, alpha=D**-0.5)
    return scores.view(B, H, N, N).masked_fill(~CAUSAL, torch.finfo(torch.float32).min)


STYLES: dict[str, Scores] = {
    "operators": lambda q, k: (q @ k.transpose(-2, -1)) / math.sqrt(D),
    "scale in q": lambda q, k: (q * D**-0.5) @ k.mT,
    "number first": lambda q, k: 0.3 * torch.matmul(q, k.transpose(2, 3)),
    "tensor scale": lambda q, k: torch.mul(q @ k.mT, torch.tensor(0.3)),
    "scale a head": lambda q, k: (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT) * (20 * SLOPES),
    "two scales": lambda q, k: (q @ k.mT * 0.5 + torch.where(CAUSAL, 0.0, -1e9)) / 2,
    "einsum": lambda q, k: torch.einsum("bhid,bhjd->bhij", q, k) * 0.3,
    "einsum, spaces": lambda q, k: torch.einsum("b h i d, b h j d -> b h i j", q, k) * 0.3,
    "einsum, keys first": lambda q, k: torch.einsum("bhjd,bhid->bhij", k, q) * 0.3,
    "einsum, heads last": lambda q, k: torch.einsum("bqhd,bkhd->bhqk", q.transpose(1, 2), k.transpose(1, 2)) * 0.3,
    "einsum, dots": lambda q, k: torch.einsum("...id,...jd->...ij", [q, k]) * 0.3,
    "einsum, one key head": lambda q, k: torch.einsum("bhid,bjd->bhij", q, k[:, 0]) * 0.3,
    "bool mask": lambda q, k: (q @ k.mT * 0.3).masked_fill(~CAUSAL, float("-inf")),
    "where": lambda q, k: torch.where(CAUSAL, q @ k.mT * 0.3, torch.finfo(torch.float32).min),
    "where, reversed": lambda q, k: torch.where(~CAUSAL, torch.tensor(-1e9), q @ k.mT * 0.3),
    "tensor.where": lambda q, k: (q @ k.mT * 0.3).where(CAUSAL, -1e9),
    "mask first": lambda q, k: torch.where(CAUSAL, 0.0, float("-inf")) + q @ k.mT * 0.3,
    "alibi": lambda q, k: q @ k.mT * 0.3 - SLOPES * DISTANCE,
    "bias with alpha": lambda q, k: torch.add(q @ k.mT * 0.3, DISTANCE, alpha=-0.5),
    "mask and bias": lambda q, k: (q @ k.mT * 0.3 - DISTANCE).masked_fill(~CAUSAL, -1e9),
    "minus maximum": lambda q, k: (s := q @ k.mT * 0.3) - s.amax(-1, keepdim=True),
    "cast": lambda q, k: (q @ k.mT * 0.3).double(),
    "in place": masked_in_place,
    "added in place": added_in_place,
    "folded": folded,
    "baddbmm, empty input": empty_baddbmm,
    "baddbmm, bias": biased_baddbmm,
}

SOFTMAXES: dict[str, Callable[[Tensor], Tensor]] = {
    "F.softmax": lambda x: F.softmax(x, dim=-1),
    "F.softmax, dtype": lambda x: F.softmax(x, -1, dtype=torch.float32),
    "torch.softmax": lambda x: torch.softmax(x, dim=3),
    "special": lambda x: torch.special.softmax(x, -1),
    "nn.Softmax": nn.Softmax(dim=-1),
    "dropout": lambda x: F.dropout(x.softmax(-1), 0.5, training=False),
    "written over": lambda x: torch.softmax(x, -1, out=x),
}


@pytest.mark.parametrize("style", STYLES)
def test_q_and_k_are_found(style: str) -> None:
    model, x = Attention(STYLES[style]), torch.randn(B, N, H * D)
    with torch.no_grad():
        expected = model(x)
    out, (record,) = recorded(model, x)
    assert torch.equal(out, expected)
    assert record.kind == "eager"
    assert record.weights is None
    assert model.seen is not None
    assert record.shape == model.seen.shape
    torch.testing.assert_close(weights_of(record), model.seen.double(), rtol=0, atol=1e-5)
    assert model.seen.amax() > 0.5


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_every_softmax_is_met(softmax: str, mode: Callable[[], torch.no_grad]) -> None:
    if softmax == "written over" and mode is torch.enable_grad:
        mode = torch.no_grad  # out= has no gradient
    model, x = Attention(masked_in_place, SOFTMAXES[softmax]), torch.randn(B, N, H * D)
    with mode(), Recorder(model) as recorder:
        model(x)
    recorder.check()
    (record,) = recorder.records
    assert record.kind == "eager"
    assert record.name == ""
    assert model.seen is not None
    torch.testing.assert_close(weights_of(record), model.seen.double(), rtol=0, atol=1e-5)


def zeroed_row(q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.mT
    scores[..., 1, :] = 0.0  # a row that verification does not look at
    return scores


def clamped(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT).clamp_(-1, 1)


def through_a_view(q: Tensor, k: Tensor) -> Tensor:
    scores = q @ k.mT
    scores.view(B * H, N, N)[:, 1].zero_()
    return scores


WEIGHTS_ONLY: dict[str, Scores] = {
    "softcap": lambda q, k: 5 * torch.tanh(q @ k.mT / 5),
    "mixed heads": lambda q, k: torch.einsum("hg,bgij->bhij", torch.randn(H, H), q @ k.mT),
    "filled with zero": lambda q, k: (q @ k.mT).masked_fill(~CAUSAL, 0.0),
    "transposed": lambda q, k: (k @ q.mT).transpose(-2, -1),
    "set item": zeroed_row,
    "clamped in place": clamped,
    "distances": lambda q, k: -torch.cdist(q, k),
    "two products": lambda q, k: q @ k.mT + (q @ q.mT).flip(-1),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("style", WEIGHTS_ONLY)
def test_what_is_no_plain_product_keeps_its_weights(style: str, mode: Callable[[], torch.no_grad]) -> None:
    model, x = Attention(WEIGHTS_ONLY[style]), torch.randn(B, N, H * D)
    with mode(), Recorder(model) as recorder:
        model(x)
    recorder.check()
    (record,) = recorder.records
    assert model.seen is not None
    if record.kind == "weights":
        assert torch.equal(weights_of(record), model.seen.double())
    else:  # a bias is a product, too; whatever is said to be q and k must give the weights
        assert style == "two products"
        torch.testing.assert_close(weights_of(record), model.seen.double(), rtol=0, atol=1e-5)


def test_write_through_a_view_is_noticed() -> None:
    model, x = Attention(through_a_view), torch.randn(B, N, H * D)
    _, (record,) = recorded(model, x)
    assert record.kind == "weights"
    assert model.seen is not None
    assert torch.equal(weights_of(record), model.seen.double())


def test_later_writes_into_the_weights_do_not_reach_the_record() -> None:
    def softmax(x: Tensor) -> Tensor:
        weights = x.softmax(-1)
        weights[..., 0] = 0
        return weights

    for style in ("operators", "transposed"):
        model = Attention({**STYLES, **WEIGHTS_ONLY}[style], softmax)
        _, (record,) = recorded(model, torch.randn(B, N, H * D))
        torch.testing.assert_close(weights_of(record).sum(-1), torch.ones(B, H, N, dtype=torch.float64))


def test_later_writes_into_q_and_k_do_not_reach_the_record() -> None:
    class Reuses(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            weights = (q @ k.mT).softmax(-1)
            out = weights @ k
            q.zero_(), k.zero_()
            return out

    q, k = torch.randn(B, H, N, D), torch.randn(B, H, N, D)
    expected = (q.double() @ k.double().mT).softmax(-1)
    _, (record,) = recorded(Reuses(), q, k)
    torch.testing.assert_close(weights_of(record), expected, rtol=0, atol=1e-5)


class Functional(nn.Module):
    """A module around a function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


def test_one_head_without_batch_counts_once_it_meets_values() -> None:
    q, k, v = torch.randn(3, N, D).unbind()
    _, (record,) = recorded(Functional(lambda q, k, v: (q @ k.T).softmax(-1) @ v), q, k, v)
    assert record.kind == "eager"
    assert record.shape == (N, N)
    torch.testing.assert_close(weights_of(record), (q.double() @ k.double().T).softmax(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "reading",
    [
        lambda w, v: w @ v,
        lambda w, v: torch.bmm(F.dropout(w, 0.1, False).to(v.dtype), v),
        lambda w, v: torch.einsum("bij,bjd->bid", w, v),
        lambda w, v: (v.mT @ w.mT).mT,
        lambda w, v: w[:, :3] @ v,
        lambda w, v: torch.baddbmm(torch.zeros(1), w, v),
    ],
)
def test_cross_attention_counts_once_it_meets_values(reading: Callable[[Tensor, Tensor], Tensor]) -> None:
    q, k = torch.randn(B, 5, D), torch.randn(B, N, D)
    _, records = recorded(Functional(lambda q, k: reading((q @ k.mT).softmax(-1), k)), q, k)
    (record,) = records
    assert record.kind == "eager"
    assert record.shape == (B, 5, N)
    torch.testing.assert_close(weights_of(record), (q.double() @ k.double().mT).softmax(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "classifier",
    [
        lambda x, w: (x @ w).softmax(-1),  # tokens to classes
        lambda x, w: (x @ w).softmax(-1).topk(2, -1).values,  # a router
        lambda x, w: (x.flatten(0, 1) @ w[0]).softmax(-1),  # a batch to classes
        lambda x, w: (x @ w).softmax(1),  # over tokens
    ],
)
def test_other_softmaxes_are_not_attention(classifier: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, w = torch.randn(B, N, D), torch.randn(B, D, 5)
    model = Functional(classifier)
    with Recorder(model) as recorder:
        model(x, w)
    assert not recorder.records


def test_names_of_nested_and_directly_called_modules() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = Attention(STYLES["operators"], nn.Softmax(-1))

        def forward(self, x: Tensor) -> Tensor:
            return self.core.forward(self.core(x))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(2))

        def features(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x)
            return (x @ x.mT).softmax(-1) @ x

    model, x = Model(), torch.randn(B, N, H * D)
    _, records = recorded(model, x)
    assert [r.name for r in records] == ["blocks.0.core"] * 2 + ["blocks.1.core"] * 2 + [""]
    assert [r.module for r in records] == ["Attention"] * 4 + ["Model"]
    assert [r.index for r in records] == [0, 1, 2, 3, 4]

    with Recorder(model) as recorder:
        model.forward(x)  # without __call__
        model.features(x)
    assert [r.name for r in recorder.records[:5]] == [r.name for r in records]
    assert [r.name for r in recorder.records[5:]] == [r.name for r in records[:4]]
