"""Queries and keys as they are stored: every row comes back, within what whole numbers cost, whatever they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.explorer import stored
from tokenrank.explorer.budget import html_bytes
from tokenrank.explorer.measured import measured
from tokenrank.operators import Blocks, Dense, Operator, from_query_key


def softmax_of(q: Tensor, k: Tensor, scale: float, causal: bool, bias: Tensor | None = None) -> np.ndarray:
    """The oracle: one head in float64, with NumPy."""
    logits = scale * q.double().numpy() @ k.double().numpy().T
    if bias is not None:
        logits = logits + bias.double().numpy()
    if causal:
        logits = np.where(np.tri(len(logits), dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def written(operator: Operator, heads: list[int], type: stored.Integer) -> tuple[stored.Factors, stored.Shape, bytes]:
    made = stored.factors(operator, heads)
    slice, shape = stored.encoded(made, type)
    assert len(slice) == shape.nbytes
    assert shape == stored.shape_of(operator, heads, type)
    return stored.decoded(slice, shape, made.causal), shape, slice


def peaky(heads: int, tokens: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries and keys as networks have them: keys with a large mean, channels of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.logspace(-1, 1, size)
    q = torch.randn(heads, tokens, size, generator=generator) / channels
    k = torch.randn(heads, tokens, size, generator=generator) * channels + 20 * torch.randn(
        heads, 1, size, generator=generator
    )
    return q, k


@settings(max_examples=60, deadline=None)
@given(
    heads=st.integers(1, 3),
    tokens=st.integers(1, 40),
    size=st.integers(1, 48),
    causal=st.booleans(),
    exponent=st.integers(-12, 12),
    shift=st.sampled_from([0.0, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_every_entry_comes_back_whatever_the_sizes(heads, tokens, size, causal, exponent, shift, seed):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(heads, tokens, size, generator=generator, dtype=torch.float64) * 10.0**exponent
    k = (torch.randn(heads, tokens, size, generator=generator, dtype=torch.float64) + shift) * 10.0**-exponent
    operator = from_query_key(q, k, None, None, causal)
    back, _, _ = written(operator, list(range(heads)), "int16")
    for head in range(heads):
        exact = softmax_of(q[head], k[head], size**-0.5, causal)
        # half a step of a row, times the largest other side, twice (q and k), in every channel
        limit = 2 * float(back.q[head].abs().max() * back.k[head].abs().max()) * size / 2 / 32767 * 1.01 + 1e-9
        np.testing.assert_allclose(stored.attention(back, head).numpy(), exact, atol=2 * limit, rtol=0)


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(2, 12), zero=st.integers(0, 11), constant=st.booleans(), seed=st.integers(0, 99))
def test_rows_of_zeros_and_constant_channels(tokens, zero, constant, seed):
    q, k = peaky(2, tokens, 8, seed)
    q[:, zero % tokens] = 0
    k[:, (zero + 1) % tokens] = 0
    if constant:
        k[..., 3], q[..., 5], k[..., 6] = 1e6, 0.0, 0.0
    operator = from_query_key(q.double(), k.double(), 0.1, None, False)
    back, _, _ = written(operator, [0, 1], "int16")
    assert bool(torch.isfinite(back.q).all())
    for head in range(2):
        exact = softmax_of(q[head], k[head], 0.1, False)
        np.testing.assert_allclose(stored.attention(back, head).numpy(), exact, atol=5e-3, rtol=0)
        np.testing.assert_allclose(
            stored.attention(back, head)[zero % tokens].numpy(), np.full(tokens, 1 / tokens), atol=1e-12, rtol=0
        )


def test_huge_values_that_cancel_in_the_logits():
    q = torch.full((1, 4, 2), 1e-150, dtype=torch.float64)
    k = torch.tensor([[[1e150, 0.0], [0.0, 1e150], [2e150, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    back, _, _ = written(from_query_key(q, k, 1.0, None, False), [0], "int16")
    np.testing.assert_allclose(stored.attention(back, 0).numpy(), softmax_of(q[0], k[0], 1.0, False), atol=1e-4, rtol=0)


def test_a_large_mean_key_costs_nothing():
    q, k = peaky(1, 64, 16)
    errors = []
    for shift in (0.0, 1e4):
        operator = from_query_key(q.double(), (k + shift).double(), 0.1, None, False)
        back, _, _ = written(operator, [0], "int16")
        errors.append(measured(operator, [0], lambda place, back=back: stored.attention(back, place), 0.99).entry)
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [[0, 1, 2, 3, 4, 5], [2], [0, 2, 4], [0, 1, 4, 5], [1, 2]])
def test_keys_of_grouped_heads_are_stored_once(heads, causal):
    q, k = peaky(6, 10, 8)
    operator = from_query_key(q, k[::2].contiguous(), 0.2, None, causal)
    back, shape, slice = written(operator, heads, "int16")
    shared = {(0, 1, 2, 3, 4, 5): 3, (2,): 1, (0, 2, 4): 3, (0, 1, 4, 5): 2, (1, 2): 2}[tuple(heads)]
    assert shape.key_heads == shared
    assert len(slice) == (len(heads) + shared) * 10 * (8 * 2 + 2)
    for place, head in enumerate(heads):
        exact = softmax_of(q[head], k[head // 2 * 2], 0.2, causal)
        np.testing.assert_allclose(stored.attention(back, place).numpy(), exact, atol=2e-3, rtol=0)


def test_a_sink_is_a_key_like_the_others():
    """gpt-oss: the sink's logit rides in one channel more; a shift of all keys does not change it."""
    q, k = peaky(2, 9, 8)
    q = torch.cat([q, torch.tensor([1.5, -2.0])[:, None, None].expand(2, 9, 1)], -1)
    k = torch.cat([k, torch.zeros(2, 9, 1)], -1)
    k[:, 0] = torch.eye(9)[8]
    q[:, 0] = 0
    operator = from_query_key(q, k, 0.3, None, True)
    back, _, _ = written(operator, [0, 1], "int16")
    for head in range(2):
        exact = softmax_of(q[head], k[head], 0.3, True)
        np.testing.assert_allclose(stored.attention(back, head).numpy(), exact, atol=2e-3, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_padding_and_a_bias_of_keys_become_channels(causal):
    q, k = peaky(3, 12, 8)
    seen = torch.ones(1, 12, dtype=torch.bool)
    seen[0, 9:] = False
    given = torch.where(seen, torch.linspace(-2, 2, 12)[None], -torch.inf)
    for mask, size in ((seen, 9), (given, 10)):
        operator = from_query_key(q, k, 0.2, mask, causal)
        assert stored.obstacle(operator) is None
        back, shape, _ = written(operator, [0, 1, 2], "int16")
        assert shape.size == size
        bias = given[0] if mask is given else torch.where(seen[0], 0.0, -torch.inf)
        for head in range(3):
            matrix = stored.attention(back, head)
            exact = softmax_of(q[head], k[head], 0.2, causal, bias)
            np.testing.assert_allclose(matrix.numpy(), exact, atol=2e-3, rtol=0)
            assert float(matrix[:9, 9:].float().max()) < 1e-37  # nothing in single precision


def masks() -> dict[str, Tensor]:
    lower = torch.ones(6, 6, dtype=torch.bool).tril()
    return {
        "window": lower & ~torch.ones(6, 6, dtype=torch.bool).tril(-3),
        "bias": torch.linspace(-1, 1, 36).reshape(6, 6),
        "causal": lower,
        "causal, added": torch.zeros(6, 6).masked_fill(~lower, -torch.inf),
        "all": torch.ones(6, 6, dtype=torch.bool),
        "zeros": torch.zeros(6, 6),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [("window", "sliding window"), ("bias", "relative"), ("causal", None), ("causal, added", None), ("all", None)],
)
def test_masks_that_say_no_more_than_causal_are_seen_through(name, words):
    q, k = peaky(2, 6, 8)
    mask = masks()[name]
    operator = from_query_key(q, k, 0.2, mask, False)
    why = stored.obstacle(operator)
    if words is not None:
        assert why is not None
        assert words in why
        return
    assert why is None
    back, _, _ = written(operator, [0, 1], "int16")
    assert back.causal == name.startswith("causal")
    exact = softmax_of(q[1], k[1], 0.2, back.causal)
    np.testing.assert_allclose(stored.attention(back, 1).numpy(), exact, atol=2e-3, rtol=0)


def test_other_operators_say_why_they_are_not_queries_and_keys():
    assert "weights" in str(stored.obstacle(Dense(torch.eye(3)[None])))
    q, k = peaky(2, 4, 8)
    windows = Blocks(from_query_key(q[None], k[None], None, None, False).reshape(2, 1), torch.arange(8).reshape(2, 4))
    assert "windows" in str(stored.obstacle(windows))
    hidden = torch.ones(2, 1, 4, dtype=torch.bool)
    hidden[1, 0, 3] = False
    assert "different" in str(stored.obstacle(from_query_key(q, k, None, hidden, False)))


def test_tokens_in_another_order_are_stored_in_that_order():
    q, k = peaky(2, 6, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    place = torch.empty_like(order)
    place[order] = torch.arange(6)
    inner = from_query_key(q, k, 0.2, None, False)
    arranged = Blocks(inner.reshape(1, 2), place[None]).reshape(2)
    assert stored.obstacle(arranged) is None
    back, _, _ = written(arranged, [0, 1], "int16")
    exact = arranged.to_dense(torch.float64)
    np.testing.assert_allclose(exact[0].numpy(), softmax_of(q[0][order], k[0][order], 0.2, False), atol=1e-6)
    for head in range(2):
        np.testing.assert_allclose(stored.attention(back, head).numpy(), exact[head].numpy(), atol=2e-3, rtol=0)
    causal = Blocks(from_query_key(q, k, 0.2, None, True).reshape(1, 2), place[None]).reshape(2)
    assert stored.obstacle(causal) is not None


@pytest.mark.parametrize("type", ["int16", "int8"])
def test_parts_begin_at_multiples_of_four_and_are_little_endian(type):
    q, k = peaky(1, 3, 3)
    made = stored.factors(from_query_key(q, k, 0.2, None, False), [0])
    slice, shape = stored.encoded(made, type)
    assert all(start % 4 == 0 for start in shape.starts)
    item = np.dtype(type).itemsize
    first = np.frombuffer(slice, f"<i{item}", 3)
    scale = stored._widened(np.frombuffer(slice, "<u2", 1, shape.starts[2]))
    most = np.iinfo(type).max
    largest = np.abs(np.frombuffer(slice, f"<i{item}", 9).astype(int)).reshape(3, 3).max(-1)
    assert (largest <= most).all()
    assert (largest > 0.99 * most - 1).all()
    np.testing.assert_allclose(first * scale, made.q[0, 0].numpy(), atol=float(scale[0]) / 2)


def test_the_measured_error_is_the_error_of_what_was_written():
    q, k = peaky(2, 30, 16)
    operator = from_query_key(q, k, 0.2, None, False)
    back, _, _ = written(operator, [0, 1], "int8")
    errors = measured(operator, [0, 1], lambda place: stored.attention(back, place), 0.9)
    entry, bounce, rank = 0.0, 0.0, 0.0
    for head in range(2):
        a, b = softmax_of(q[head], k[head], 0.2, False), stored.attention(back, head).numpy()
        entry = max(entry, np.abs(a - b).max())
        for n in (1, 2, 8):
            off = np.linalg.matrix_power(a, n) - np.linalg.matrix_power(b, n)
            bounce = max(bounce, np.abs(off).sum(-1).max())
        ranks = [np.linalg.solve(np.eye(30) - 0.9 * m.T, np.full(30, 0.1 / 30)) for m in (a, b)]
        rank = max(rank, np.abs(ranks[0] - ranks[1]).sum())
    assert errors.entry == pytest.approx(entry, rel=1e-4)
    assert errors.bounce == pytest.approx(bounce, rel=1e-4)
    assert errors.tokenrank == pytest.approx(rank, rel=1e-3, abs=1e-9)
    told = errors.as_json()
    assert errors.entry <= told["entry"] <= 1.01 * errors.entry


def test_a_layer_of_1024_tokens_takes_at_most_what_is_promised():
    """12 heads of 64 channels, base64: 4.3 MB, of which scales are 1.6 %."""
    shape = stored.Shape(12, 12, 1024, 64, "int16")
    assert html_bytes(shape.nbytes) < 4.3e6


def test_short_scales_are_those_that_rows_were_divided_by():
    """Half a step at most, whatever the scale: nothing is lost by its being bfloat16."""
    values = np.exp(np.random.default_rng(0).uniform(-30, 30, (1, 200, 1))) * np.linspace(-1, 1, 7)
    for type in ("int16", "int8"):
        integers, scales = stored._integers(values, type)
        steps = stored._widened(scales)[..., None]
        assert (np.abs(integers * steps - values) <= steps / 2 * (1 + 1e-9)).all()
        assert (np.abs(integers.astype(int)).max(-1) > 0.99 * np.iinfo(type).max - 1).all()
