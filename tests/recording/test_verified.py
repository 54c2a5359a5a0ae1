"""What a record says of an attention written by hand is the model's own in every row, or the weights are kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.errors import ChainError
from tokenrank.recording import AttentionRecord
from tokenrank.recording.lineage import verify
from tokenrank.trace.parts import blind_tokens

from .reference import recorded, weights_of

B, H, N, D = 2, 3, 9, 8
VISIBLE = torch.ones(N, N, dtype=torch.bool).tril()
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 0.15}  # total variation

Scores = Callable[[Tensor, Tensor], Tensor]


class Attention(nn.Module):
    """Attention around a function from q, k to the argument of the softmax; it keeps its weights."""

    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.scores = scores
        self.weights = torch.empty(0)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        weights = self.scores(q, k).softmax(-1)
        self.weights = weights.clone()
        return weights.to(k.dtype) @ k


def tensors(dtype: torch.dtype = torch.float32, size: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(B, H, N, D, generator=generator, dtype=torch.float64) * size for _ in range(2))
    return q.to(dtype), k.to(dtype)


def seen(scores: Scores, q: Tensor, k: Tensor) -> tuple[AttentionRecord, Tensor]:
    """The record of an attention, and the weights that the model had."""
    model = Attention(scores)
    _, (record,) = recorded(model, q, k)
    return record, model.weights


def distance(record: AttentionRecord, weights: Tensor) -> float:
    """Largest total variation between a row of the record and the model's own; infinite for NaN."""
    rows = (weights_of(record) - weights.double()).abs().sum(-1) / 2
    return float(rows.nan_to_num(torch.inf).amax())


def in_numpy(change: Callable[[Any], None]) -> Scores:
    """Scores edited where no function of PyTorch sees it."""

    def scores(q: Tensor, k: Tensor) -> Tensor:
        logits = q @ k.mT
        change(logits.numpy())
        return logits

    return scores


def zeroed_row(logits: Any) -> None:
    logits[1, 2, 3] = 0


def swapped_columns(logits: Any) -> None:
    logits[..., [1, 4]] = logits[..., [4, 1]]


def swapped_heads(logits: Any) -> None:
    logits[:, [0, 2]] = logits[:, [2, 0]]


def through_data(q: Tensor, k: Tensor) -> Tensor:
    logits = q @ k.mT
    logits.data[0, 1, 5] += torch.linspace(0, 4, N)
    return logits


def query_as_buffer(q: Tensor, k: Tensor) -> Tensor:
    q = q.clone()
    logits = q @ k.mT
    q[:, :, 2] = 0  # a row that is neither in the middle nor the last
    return logits


def keys_as_buffer(q: Tensor, k: Tensor) -> Tensor:
    k = k.clone()
    logits = q @ k.mT
    torch.neg(k, out=k)
    return logits


def bias_as_buffer(q: Tensor, k: Tensor) -> Tensor:
    bias = torch.linspace(-2, 2, N * N).reshape(N, N)
    logits = q @ k.mT + bias
    bias.data[1] = 7 * torch.eye(N)[1]
    return logits


UNSEEN: dict[str, Scores] = {
    "one row, numpy": in_numpy(zeroed_row),
    "columns, numpy": in_numpy(swapped_columns),
    "heads, numpy": in_numpy(swapped_heads),
    "one row, data": through_data,
    "query as buffer": query_as_buffer,
    "keys as buffer": keys_as_buffer,
    "bias as buffer": bias_as_buffer,
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_nobody_could_see_keeps_its_weights(name: str) -> None:
    record, weights = seen(UNSEEN[name], *tensors())
    assert record.kind == "weights"
    assert torch.equal(record.weights, weights)


@given(
    dtype=st.sampled_from(DTYPES),
    sample=st.integers(0, B - 1),
    head=st.integers(0, H - 1),
    row=st.integers(0, N - 1),
    column=st.integers(0, N - 1),
    change=st.floats(-6, 6),
    piece=st.sampled_from([1, 20, 100, 10**6]),
)
@settings(max_examples=120, deadline=None)
def test_one_number_anywhere(
    dtype: torch.dtype, sample: int, head: int, row: int, column: int, change: float, piece: int
) -> None:
    """An edited logit: what is recorded is the model's row, to within rounding, however the rows are cut."""

    def scores(q: Tensor, k: Tensor) -> Tensor:
        logits = q @ k.mT * 0.5
        logits.data[sample, head, row, column] += change
        return logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(verify._PIECE, "cpu", piece)
        record, weights = seen(scores, *tensors(dtype))
    assert distance(record, weights) <= ROUNDING[dtype]


@given(
    dtype=st.sampled_from(DTYPES),
    size=st.floats(0.0, 2.5),
    seed=st.integers(0, 999),
    slope=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=80, deadline=None)
def test_rounding_alone_is_no_reason(dtype: torch.dtype, size: float, seed: int, slope: float) -> None:
    """Logits up to about a hundred: rounding of the type is not taken for an edit."""
    bias = (-slope * (torch.arange(N)[:, None] - torch.arange(N)).abs()).to(dtype)
    record, _ = seen(lambda q, k: q @ k.mT * 0.7 + bias, *tensors(dtype, size, seed))
    assert record.kind == "eager"
    assert record.q is not None


def test_rounding_of_long_rows() -> None:
    q, k = (torch.randn(1, 1, 3000, 16) for _ in range(2))
    for dtype in (torch.float32, torch.bfloat16):
        record, _ = seen(lambda q, k: q @ k.mT, q.to(dtype), k.to(dtype))
        assert record.kind == "eager"


# numbers that hide, and numbers that do not ------------------------------------------------------------


def deep(dtype: torch.dtype = torch.float64, depth: float = 2e4) -> tuple[Tensor, Tensor]:
    """Row 1 sees tokens 0 and 1 with logits −depth; all other logits are near 0."""
    q, k = torch.ones(1, 1, 6, 1, dtype=dtype), torch.zeros(1, 1, 6, 1, dtype=dtype)
    q[0, 0, 1], k[0, 0, :2] = depth, -1
    return q, k


SIX = torch.ones(6, 6, dtype=torch.bool).tril()
LEAKS: dict[str, Scores] = {
    "filled −1e4": lambda q, k: (q @ k.mT).masked_fill(~SIX, -1e4),
    "filled −5e3": lambda q, k: (q @ k.mT).masked_fill_(~SIX, -5e3),
    "where −1e4": lambda q, k: torch.where(SIX, q @ k.mT, torch.tensor(-1e4, dtype=q.dtype)),
    "where, reversed": lambda q, k: torch.where(~SIX, -1e4, q @ k.mT),
    "filled, then scaled": lambda q, k: (q @ k.mT).masked_fill(~SIX, -1e4) * 0.5,
    "filled −1": lambda q, k: (q @ k.mT).masked_fill(~SIX, -1.0),
    "added −1e4": lambda q, k: q @ k.mT + torch.where(SIX, 0.0, -1e4),
    "subtracted 1e4": lambda q, k: q @ k.mT - 1e4 * (~SIX).to(q.dtype),
    "added −1e4 and a bias": lambda q, k: q @ k.mT + torch.where(SIX, 0.0, -1e4) - 0.1 * torch.arange(6.0),
    "added twice": lambda q, k: q @ k.mT + torch.where(SIX, 0.0, -1e4) + torch.tensor([0.0] * 5 + [-1e4]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LEAKS)
def test_a_fill_above_visible_logits_hides_nothing(name: str, dtype: torch.dtype) -> None:
    model, (q, k) = Attention(LEAKS[name]), deep(dtype)
    with torch.no_grad(), tr.capture(model) as trace:
        model(q, k)
    own = LEAKS[name](q.double(), k.double()).softmax(-1)
    assert own[0, 0, 1, 2:].sum() > 0.9  # the model attends outside of its mask
    near = 1e-3 if dtype == torch.float32 else 1e-9  # logits of 1e4 are rounded to 1e-3 in single precision
    torch.testing.assert_close(trace[0].to_dense(), model.weights, rtol=0, atol=near)
    torch.testing.assert_close(weights_of(trace.records[0]), own, rtol=0, atol=near)
    assert not trace[0].is_causal
    if "added" in name or "subtracted" in name:  # a sum is still queries, keys and numbers
        assert trace.records[0].kind == "eager"
        assert trace.records[0].mask.isfinite().all()


def test_the_least_half_number_may_be_a_logit_like_others() -> None:
    """float16: −65,504 added to visible logits of −40,000 and hidden ones of 0 hides little, its half nothing."""
    q, k = deep(torch.float16, 4e4)
    for fill in (torch.finfo(torch.float16).min, -35000.0):
        term = torch.where(SIX, 0.0, fill).half()
        record, weights = seen(lambda q, k, term=term: q @ k.mT + term, q, k)
        assert distance(record, weights) < 1e-3
        chain = tr.AttentionChain(weights) if record.weights is not None else tr.AttentionChain.from_qk(
            record.q, record.k, record.scale, record.mask
        )  # fmt: skip
        torch.testing.assert_close(chain.to_dense(), weights.float(), rtol=0, atol=1e-3)


HIDING: dict[str, Scores] = {
    "filled −1e4": lambda q, k: (q @ k.mT).masked_fill(~VISIBLE, -1e4),
    "filled −200": lambda q, k: (q @ k.mT).masked_fill(~VISIBLE, -200),
    "filled least": lambda q, k: (q @ k.mT).masked_fill(~VISIBLE, torch.finfo(q.dtype).min),
    "added −1e4": lambda q, k: q @ k.mT + torch.where(VISIBLE, 0.0, -1e4),
    "added least": lambda q, k: q @ k.mT + torch.where(VISIBLE, 0.0, torch.finfo(q.dtype).min),
    "subtracted 1e9": lambda q, k: q @ k.mT - 1e9 * (~VISIBLE).float(),
    "added twice": lambda q, k: (q @ k.mT + torch.where(VISIBLE, 0.0, -1e4) + torch.where(VISIBLE, 0.0, -1e9)) / 2,
}


@pytest.mark.parametrize("name", HIDING)
def test_a_fill_that_hides_is_a_mask(name: str) -> None:
    """float32: e^−104 is zero, so that the result is that of −∞ to the last bit."""
    model, (q, k) = Attention(HIDING[name]), tensors(size=1.5)
    with torch.no_grad(), tr.capture(model) as trace:
        model(q, k)
    assert trace.records[0].mask.dtype == torch.bool
    assert trace[0].is_causal
    assert torch.equal(model.weights, seen(lambda q, k: HIDING[name](q, k).masked_fill(~VISIBLE, -torch.inf), q, k)[1])
    torch.testing.assert_close(trace[0].to_dense(), model.weights, rtol=0, atol=1e-5)


def test_a_bias_stays_a_number() -> None:
    """Swin adds −100 between regions of a window, ALiBi goes on from zero: both are no masks, whatever underflows."""
    regions = torch.where(VISIBLE, 0.0, -100.0)
    slopes = -300.0 * (torch.arange(N)[:, None] - torch.arange(N)).abs()
    for term in (regions, slopes):
        record, weights = seen(lambda q, k, term=term: q @ k.mT + term, *tensors(size=3.0))
        assert torch.equal(record.mask, term)
        assert distance(record, weights) < 1e-5


# rows without any visible token ------------------------------------------------------------------------

PADDED = VISIBLE & (torch.arange(N) >= 2)  # two tokens of padding on the left of causal text
LEAST = torch.finfo(torch.float32).min
BLIND: dict[str, Scores] = {
    "filled least": lambda q, k: (q @ k.mT).masked_fill(~PADDED, LEAST),
    "filled −1e4": lambda q, k: (q @ k.mT).masked_fill(~PADDED, -1e4),
    "added least": lambda q, k: q @ k.mT + torch.where(PADDED, 0.0, LEAST),
    "added −1e9": lambda q, k: q @ k.mT + torch.where(PADDED, 0.0, -1e9),
    "added, and a bias": lambda q, k: q @ k.mT + torch.where(PADDED, 0.0, LEAST) - 0.1 * torch.arange(float(N)),
    "filled −∞": lambda q, k: (q @ k.mT).masked_fill(~PADDED, -torch.inf),
}


@pytest.mark.parametrize("name", BLIND)
def test_rows_that_see_nothing_are_the_models(name: str) -> None:
    """Uniform where a finite number was filled in, undefined for −∞; no chain either way until they are dropped."""
    model, (q, k) = Attention(BLIND[name]), tensors()
    with torch.no_grad(), tr.capture(model) as trace:
        model(q, k)
    record = trace.records[0]
    assert record.kind == "eager"
    own = model.weights
    assert own[..., :2, :].isnan().all() if "∞" in name else torch.equal(own[..., 0, :], torch.full((B, H, N), 1 / N))
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(record.to_dense(dtype), own.nan_to_num(0).to(dtype), rtol=0, atol=1e-5)
    with pytest.raises(ChainError, match=r"fully masked.*trace\.select\(sample=…\)"):
        trace[0]
    chain = trace.select(sample=1)[0]
    assert chain.num_tokens == N - 2
    assert chain.is_causal
    torch.testing.assert_close(chain.to_dense(), own[1:, :, 2:, 2:], rtol=0, atol=1e-5)


def test_padding_of_half_precision_is_masked_though_its_logits_overflow() -> None:
    """float16: −65,504 and a logit of −20 is −∞, and of 20 it is −65,472."""
    model, (q, k) = (
        Attention(lambda q, k: q @ k.mT + torch.zeros(N, N).half().masked_fill(~PADDED, -65504)),
        tensors(torch.float16, 3.0),
    )
    with torch.no_grad(), tr.capture(model) as trace:
        model(q, k)
    own = model.weights
    assert own[..., 0, :].float().std(-1).amax() > 0.1  # not uniform
    with pytest.raises(ChainError, match=r"fully masked.*trace\.select\(sample=0\)"):
        trace[0]
    chain = trace.select(sample=1)[0]
    assert chain.num_tokens == N - 2
    torch.testing.assert_close(chain.to_dense(), own[1:, :, 2:, 2:].float(), rtol=0, atol=2e-2)


def test_a_row_that_adds_small_numbers_everywhere_sees_everything() -> None:
    """−1e4 added to a whole row leaves its logits as they are, nearly; that is what the model attends to."""
    record, weights = seen(lambda q, k: q @ k.mT + torch.where(PADDED, 0.0, -1e4), *tensors())
    assert distance(record, weights) < 2e-3
    assert weights[..., 0, :].std(-1).amin() > 0.01
    assert tr.AttentionChain.from_qk(record.q, record.k, record.scale, record.mask).num_tokens == N


# arrangements ------------------------------------------------------------------------------------------


def grouped(q: Tensor, k: Tensor) -> Tensor:
    return q @ k[:, :1].expand(B, H, N, D).mT


def windows(q: Tensor, k: Tensor) -> Tensor:
    return (q.repeat(5, 1, 1, 1) @ k.repeat(5, 1, 1, 1).mT).view(5, B, H, N, N).flatten(0, 1)


@pytest.mark.parametrize("arrangement", [grouped, windows])
def test_every_head_and_window_is_looked_at(arrangement: Scores) -> None:
    class Model(nn.Module):
        def __init__(self, last: Callable[[Tensor], None]) -> None:
            super().__init__()
            self.last = last

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            logits = arrangement(q, k)
            self.last(logits.data)
            self.weights = logits.softmax(-1)
            return self.weights @ torch.ones(N, D)

    def edited(logits: Tensor) -> None:
        logits[-1, -1, 1, 0] += 1.0

    for last, kind in ((lambda logits: None, "eager"), (edited, "weights")):
        model = Model(last)
        _, (record,) = recorded(model, *tensors())
        assert record.kind == kind
        torch.testing.assert_close(weights_of(record), model.weights.double(), rtol=0, atol=1e-5)


def test_dropout_on_weights_comes_after_what_is_recorded() -> None:
    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return F.dropout((q @ k.mT).softmax(-1), 0.5, training=True) @ k

    q, k = tensors()
    _, (record,) = recorded(Model(), q, k)
    assert record.kind == "eager"
    torch.testing.assert_close(weights_of(record), (q.double() @ k.double().mT).softmax(-1), rtol=0, atol=1e-5)


def test_logits_cast_to_a_narrow_type_are_recognised() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        record, _ = seen(lambda q, k, dtype=dtype: (q @ k.mT).to(dtype).float(), *tensors(size=2.0))
        assert record.kind == "eager"
        assert record.q.dtype == torch.float32


def test_autocast_multiplies_what_it_rounded() -> None:
    q, k = tensors(size=1.5)
    model = Attention(lambda q, k: q @ k.mT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (record,) = recorded(model, q, k)
    assert record.kind == "eager"
    assert torch.equal(record.q, q.bfloat16())


@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=5), most=st.integers(1, 200))
def test_pieces_cover_everything_once(shape: list[int], most: int) -> None:
    counted = torch.zeros(shape, dtype=torch.int)
    for piece in verify._pieces(shape, most):
        assert counted[piece].numel() <= max(most, shape[-1])
        counted[piece] += 1
    assert (counted == 1).all()


STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "scale": lambda s, hidden: s * 0.5,
    "scale a head": lambda s, hidden: s * torch.tensor([0.5, 1.0, 2.0], dtype=s.dtype).view(H, 1, 1),
    "bias": lambda s, hidden: s + torch.linspace(-3, 3, N, dtype=s.dtype),
    "minus maximum": lambda s, hidden: s - s.amax(-1, keepdim=True),
    "fill −∞": lambda s, hidden: s.masked_fill(hidden, -torch.inf),
    "fill −1e4": lambda s, hidden: s.masked_fill_(hidden, -1e4),
    "fill −8": lambda s, hidden: torch.where(hidden, -8.0, s),
    "fill least": lambda s, hidden: s.masked_fill(hidden, torch.finfo(s.dtype).min),
    "add −1e4": lambda s, hidden: s + torch.where(hidden, -1e4, 0.0).to(s.dtype),
    "add −2e3": lambda s, hidden: s.sub_(2e3 * hidden),
    "add least": lambda s, hidden: s + torch.zeros_like(s).masked_fill(hidden, torch.finfo(s.dtype).min / 2),
    "double": lambda s, hidden: s.double(),
    "data": lambda s, hidden: s.data[0, 1].mul_(0.5) is None or s,
    "large": lambda s, hidden: s * 300,
    "negative": lambda s, hidden: -s,
    "softcap": lambda s, hidden: torch.tanh(s),
}

COVERED = [~VISIBLE, torch.arange(N) >= 6, torch.arange(N)[:, None] < 3, torch.rand(B, 1, N, N) < 0.3]


@given(
    names=st.lists(st.sampled_from(list(STEPS)), max_size=5),
    dtype=st.sampled_from(DTYPES),
    hidden=st.sampled_from(COVERED),
    seed=st.integers(0, 99),
)
@settings(max_examples=200)
def test_any_sequence_of_steps(names: list[str], dtype: torch.dtype, hidden: Tensor, seed: int) -> None:
    """Whatever was done to logits: the record, and its chain where it is one, are what the model had."""
    model = Attention(lambda q, k: reduce(lambda s, name: STEPS[name](s, hidden), names, q @ k.mT))
    with torch.no_grad(), tr.capture(model) as trace:
        model(*tensors(dtype, seed=seed))
    (record,), own = trace.records, model.weights.double()
    undefined = own.isnan().any(-1, keepdim=True)
    wide = torch.promote_types(dtype, torch.float32)
    rounding = max(ROUNDING[dtype], (0.21 if dtype.itemsize < 4 else 2e-2) * ("large" in names))
    blind = blind_tokens(record)
    skipped = undefined
    if blind is not None and dtype.itemsize < 4 and record.mask is not None and record.mask.dtype == torch.bool:
        skipped = undefined | blind[..., None]  # numbers that overflowed
    for shown in (weights_of(record), record.to_dense(wide).double()):
        apart = (shown - own).masked_fill(skipped, 0).abs().sum(-1) / 2
        assert float(apart.amax()) <= rounding
    if undefined.any() or (blind is not None and blind.any()):
        with pytest.raises(ChainError, match=r"fully masked|NaN"):
            trace[0]
        return
    chain = trace[0]
    apart = (chain.to_dense().double() - own).abs().sum(-1) / 2
    assert float(apart.amax()) <= rounding
    support = chain.operator.support().expand(own.shape)
    assert float(own.masked_fill(support, 0).amax()) == 0  # nothing is called impossible that the model did


# fused calls, whose weights nobody sees ----------------------------------------------------------------


class Fused(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, torch.eye(k.shape[-2], dtype=q.dtype).expand(*k.shape[:-1], -1),
                                              self.mask, scale=1.0)  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", [-1e4, None, -torch.inf])
def test_fused_float_masks_that_hide(dtype: torch.dtype, fill: float | None) -> None:
    fill = torch.finfo(dtype).min if fill is None else fill
    model, (q, k) = Fused(torch.zeros(N, N, dtype=dtype).masked_fill(~VISIBLE, fill)), tensors(dtype)
    with torch.no_grad(), tr.capture(model) as trace:
        own = model(q, k)
    assert trace.records[0].mask.dtype == torch.bool
    assert trace[0].is_causal
    assert own[..., 0, 1:].abs().amax() == 0
    torch.testing.assert_close(trace[0].to_dense(), own.to(trace[0].dtype), rtol=0, atol=ROUNDING[dtype] / 3)


@pytest.mark.parametrize(("dtype", "fill"), [(torch.float32, -1e4), (torch.float64, -1e4), (torch.float16, None)])
def test_fused_float_masks_that_do_not_hide(dtype: torch.dtype, fill: float | None) -> None:
    fill = float(torch.finfo(dtype).min) if fill is None else fill
    depth = -2.0 * fill if dtype != torch.float16 else 6e4
    mask = torch.where(SIX, 0.0, fill / (1 if dtype != torch.float16 else 1.8))
    model, (q, k) = Fused(mask.to(dtype)), deep(dtype, depth)
    with torch.no_grad(), tr.capture(model) as trace:
        own = model(q, k)
    assert own[0, 0, 1, 2:].sum() > 0.9
    torch.testing.assert_close(trace[0].to_dense(), own.to(trace[0].dtype), rtol=0, atol=1e-3)
    assert not trace[0].is_causal


@pytest.mark.parametrize("fill", [LEAST, -1e9, -1e4, -torch.inf])
def test_fused_rows_that_see_nothing(fill: float) -> None:
    model, (q, k) = Fused(torch.where(PADDED, 0.0, fill)), tensors()
    _, (record,) = recorded(model, q, k)
    own = model(q, k)
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(record.to_dense(dtype), own.to(dtype), rtol=0, atol=2e-3)
