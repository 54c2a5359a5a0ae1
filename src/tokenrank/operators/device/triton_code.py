"""The kernels themselves, in Triton. Imported where one is launched, and nowhere else: Triton is optional."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
RAISED = tl.constexpr(16384.0)  # of a probability, so that float16 holds it to 2⁻²⁵ of one part in 16,384


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def exponential(
    Q: tl.tensor,
    K: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    X: tl.tensor,
    F: tl.tensor,
    LIVE: tl.tensor,
    Y: tl.tensor,
    n: tl.tensor,
    m: tl.tensor,
    d: tl.tensor,
    c: tl.tensor,
    scale: tl.tensor,
    q_head: tl.tensor,
    q_row: tl.tensor,
    k_head: tl.tensor,
    k_row: tl.tensor,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    TRIANGLE: tl.constexpr,
) -> None:
    """Y[o] = Σ_i exp(scale · q_o·k_i − B[i] − C[o]) X[i] of OUT tokens o and one head; COLUMNS columns at a time."""
    runs = tl.cdiv(n, OUT)
    h, run = (tl.program_id(0) // runs).to(tl.int64), tl.program_id(0) % runs
    o = run * OUT + tl.arange(0, OUT)
    dims, columns, both = tl.arange(0, D), tl.arange(0, COLUMNS), tl.arange(0, 2 * COLUMNS)
    queries = Q + h * q_head + o[:, None].to(tl.int64) * q_row + dims[None, :]
    q = tl.load(queries, (o[:, None] < n) & (dims[None, :] < d), 0.0)
    above = tl.load(C + h * n + o, o < n, 0.0)
    factor = tl.load(F + h * c + both // 2, both // 2 < c, 1.0)
    inverse = 1 / factor
    sums = tl.zeros((OUT, 2 * COLUMNS), tl.float32)
    begin, end = 0, m
    if TRIANGLE == "lower":
        end = tl.minimum(m, (run + 1) * OUT)
    if TRIANGLE == "upper":
        begin = run * OUT // IN * IN
    end = end * tl.load(LIVE + h).to(tl.int32)  # a head that has settled takes no time
    for start in range(begin, end, IN):
        i = start + tl.arange(0, IN)
        keys = K + h * k_head + i[None, :].to(tl.int64) * k_row + dims[:, None]
        k = tl.load(keys, (i[None, :] < m) & (dims[:, None] < d), 0.0)
        below = tl.load(B + h * m + i, i < m, float("inf"))
        exponent = tl.dot(q, k) * scale - below[None, :] - above[:, None]
        if TRIANGLE == "lower":
            exponent = tl.where(i[None, :] <= o[:, None], exponent, float("-inf"))
        if TRIANGLE == "upper":
            exponent = tl.where(i[None, :] >= o[:, None], exponent, float("-inf"))
        p = tl.exp2(tl.minimum(exponent, 0.0) * LOG2E) * RAISED
        values = X + h * m * c + i[:, None] * c + both[None, :] // 2
        x = tl.load(values, (i[:, None] < m) & (both[None, :] // 2 < c), 0.0) * inverse[None, :]
        # high and low parts of both, side by side, so that products of half precision keep single precision
        x_high, p_high = x.to(tl.float16), p.to(tl.float16)
        x_low = (x - x_high.to(tl.float32)).to(tl.float16)
        p_low = (p - p_high.to(tl.float32)).to(tl.float16)
        parts = tl.where(both[None, :] % 2 == 0, x_high, x_low)
        sums = tl.dot(p_high, parts, sums)
        sums = tl.dot(p_low, parts, sums)
    y = tl.sum(tl.reshape(sums * (factor[None, :] / RAISED), (OUT, COLUMNS, 2)), 2)
    tl.store(Y + h * n * c + o[:, None] * c + columns[None, :], y, (o[:, None] < n) & (columns[None, :] < c))


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def streamed(
    W: tl.tensor,
    X: tl.tensor,
    F: tl.tensor,
    LIVE: tl.tensor,
    Y: tl.tensor,
    n: tl.tensor,
    c: tl.tensor,
    parts: tl.tensor,
    share: tl.tensor,
    w_head: tl.tensor,
    w_out: tl.tensor,
    w_in: tl.tensor,
    COLUMNS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
) -> None:
    """Y[part, o] = Σ_i W[o, i] X[i] of OUT tokens o, one head, and the ``share`` tokens i of one part."""
    runs = tl.cdiv(n, OUT)
    sums_of, run = tl.program_id(0) // runs, tl.program_id(0) % runs
    h, part = (sums_of // parts).to(tl.int64), sums_of % parts
    o = run * OUT + tl.arange(0, OUT)
    columns, both = tl.arange(0, COLUMNS), tl.arange(0, 2 * COLUMNS)
    factor = tl.load(F + h * c + both // 2, both // 2 < c, 1.0)
    inverse = 1 / factor
    sums = tl.zeros((OUT, 2 * COLUMNS), tl.float32)
    begin = part * share
    end = tl.minimum(n, begin + share) * tl.load(LIVE + h).to(tl.int32)
    for start in range(begin, end, IN):
        i = start + tl.arange(0, IN)
        weights = W + h * w_head + o[:, None].to(tl.int64) * w_out + i[None, :].to(tl.int64) * w_in
        w = tl.load(weights, (o[:, None] < n) & (i[None, :] < end), 0.0)
        values = X + h * n * c + i[:, None] * c + both[None, :] // 2
        x = tl.load(values, (i[:, None] < end) & (both[None, :] // 2 < c), 0.0) * inverse[None, :]
        high = x.to(tl.float16)
        low = (x - high.to(tl.float32)).to(tl.float16)
        sums = tl.dot(w, tl.where(both[None, :] % 2 == 0, high, low), sums)
    y = tl.sum(tl.reshape(sums * factor[None, :], (OUT, COLUMNS, 2)), 2)
    out = Y + ((h * parts + part) * n + o[:, None]) * c + columns[None, :]
    tl.store(out, y, (o[:, None] < n) & (columns[None, :] < c))
