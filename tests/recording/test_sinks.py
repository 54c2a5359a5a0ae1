"""Sinks, grids and tensors without values in attention that people write by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tokenrank.recording import AttentionRecord, Recorder

B, H, N, D = 2, 3, 6, 8
SINKS = torch.tensor([0.5, -1.0, 2.0])
CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()


def column(scores: Tensor) -> Tensor:
    return SINKS.view(1, H, 1, 1).expand(*scores.shape[:-1], 1)


class WithSinks(nn.Module):
    """Attention whose softmax has one more column than there are keys."""

    def __init__(self, logits: Callable[[Tensor, Tensor], Tensor], dropped: bool = True) -> None:
        super().__init__()
        self.logits, self.dropped = logits, dropped
        self.seen = torch.empty(0)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.logits(q, k).softmax(-1)
        self.seen = weights.clone()
        return weights[..., :-1] @ v if self.dropped else weights @ torch.cat([v, v[..., :1, :]], -2)


def stable(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.matmul(q, k.mT) * 0.5 + torch.where(CAUSAL, 0.0, -1e9)
    scores = torch.cat([scores, column(scores)], dim=-1)
    return scores - scores.max(dim=-1, keepdim=True).values


def folded(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.cat([q @ k.mT, column(q @ k.mT)], 3)
    return scores.view(B * H, N, N + 1).view(B, H, N, N + 1)


STYLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "row maximum": stable,
    "scaled after": lambda q, k: torch.cat([q @ k.mT, column(q @ k.mT)], -1) * 0.5,
    "scaled by head": lambda q, k: torch.concat([q @ k.mT, column(q @ k.mT)], -1) * SINKS.abs().view(H, 1, 1),
    "masked before": lambda q, k: torch.cat([(q @ k.mT).masked_fill(~CAUSAL, -1e9), column(q @ k.mT)], -1),
    "cast and shifted": lambda q, k: torch.cat([q @ k.mT, column(q @ k.mT)], -1).double() + 3.0,
    "folded": folded,
}


def only(model: nn.Module, *args: Tensor) -> AttentionRecord:
    with torch.no_grad(), Recorder(model) as recorder:
        model(*args)
    recorder.check()
    (record,) = recorder.records
    return record


def tokens() -> list[Tensor]:
    return [torch.randn(B, H, N, D) for _ in range(3)]


@pytest.mark.parametrize("style", STYLES)
def test_sinks_are_found(style: str) -> None:
    model = WithSinks(STYLES[style])
    record = only(model, *[t.double() if style == "cast and shifted" else t for t in tokens()])
    assert record.kind == "eager"
    assert record.sinks is not None
    assert record.sinks.shape == (H,)
    assert record.shape == (B, H, N, N)
    torch.testing.assert_close(record.to_dense(torch.float64), model.seen[..., :-1].double(), rtol=0, atol=1e-5)


def by_query(q: Tensor, k: Tensor) -> Tensor:
    return torch.cat([q @ k.mT, q.sum(-1, keepdim=True)], -1)


def by_sample(q: Tensor, k: Tensor) -> Tensor:
    return torch.cat([q @ k.mT, (torch.arange(B).view(B, 1, 1, 1) + column(q @ k.mT))], -1)


def masked_afterwards(q: Tensor, k: Tensor) -> Tensor:
    scores = torch.cat([q @ k.mT, column(q @ k.mT)], -1)
    return scores.masked_fill(~torch.ones(N, N + 1, dtype=torch.bool).tril(1), -1e9)


@pytest.mark.parametrize("logits", [by_query, by_sample])
def test_sinks_that_are_not_one_a_head_leave_the_weights_of_the_keys(logits: Callable[..., Tensor]) -> None:
    model = WithSinks(logits)
    record = only(model, *tokens())
    assert (record.kind, record.sinks) == ("weights", None)
    assert torch.equal(record.to_dense(), model.seen[..., :-1])


def test_a_column_that_meets_a_value_is_no_sink() -> None:
    model = WithSinks(STYLES["row maximum"], dropped=False)
    record = only(model, *tokens())
    assert (record.kind, record.sinks) == ("weights", None)
    assert torch.equal(record.to_dense(), model.seen)


@pytest.mark.parametrize(
    "logits",
    [masked_afterwards, lambda q, k: torch.cat([5 * torch.tanh(q @ k.mT / 5), column(q @ k.mT)], -1)],
    ids=["masked after the sink", "soft-capped"],
)
def test_other_logits_with_a_sink_keep_their_weights(logits: Callable[..., Tensor]) -> None:
    model = WithSinks(logits)
    record = only(model, *tokens())
    assert (record.kind, record.sinks) == ("weights", None)
    assert torch.equal(record.to_dense(), model.seen)


class Function(nn.Module):
    """A module around a function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_biases_added_to_grids_are_found(scale: float) -> None:
    rows, columns = torch.randn(B * H, 2, 3, 2, 1), torch.randn(B * H, 2, 3, 1, 3)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q * 0.5) @ k.mT
        scores = (scores.view(B * H, 2, 3, 2, 3) + rows + columns) * scale
        return scores.view(B * H, N, N).softmax(-1) @ v

    q, k, v = (t.flatten(0, 1) for t in tokens())
    record = only(Function(attention), q, k, v)
    expected = (0.5 * q @ k.mT + (rows + columns).reshape(B * H, N, N)).mul(scale).double().softmax(-1)
    assert record.kind == "eager"
    assert record.mask is not None
    torch.testing.assert_close(record.to_dense(torch.float64), expected, rtol=0, atol=1e-5)


def test_other_views_of_logits_are_not_followed() -> None:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.mT).view(B * H, 3, 2, 2, 3).flip(1) + 0.0
        return scores.reshape(B * H, N, N).softmax(-1) @ v

    record = only(Function(attention), *(t.flatten(0, 1) for t in tokens()))
    assert record.kind == "weights"


def meta(function: Callable[..., Tensor]) -> AttentionRecord:
    return only(Function(function), *(t.to("meta") for t in tokens()))


def test_tensors_without_values_are_taken_at_their_word() -> None:
    scale, allowed, low = torch.ones((), device="meta"), CAUSAL.to("meta"), torch.ones((), device="meta")
    sinks = SINKS.to("meta").view(1, H, 1, 1).expand(B, H, N, 1)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * scale).masked_fill(~allowed, low).softmax(-1) @ v

    def sunk(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.cat([q @ k.mT, sinks], -1).softmax(-1)[..., :-1] @ v

    def soft_capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.tanh(q @ k.mT).softmax(-1) @ v

    found = [meta(function) for function in (plain, sunk, soft_capped)]
    assert [record.kind for record in found] == ["eager", "eager", "weights"]
    assert all(record.shape == (B, H, N, N) for record in found)
    assert all(tensor.is_meta for record in found for tensor in record.tensors.values())
    assert found[1].sinks is not None
    assert found[1].sinks.shape == (H,)
