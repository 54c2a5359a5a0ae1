"""Bad input gets an error that names the row, the value found, what was expected and the cure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tokenrank.errors import ChainError, TokenRankError
from tokenrank.operators import Dense, QueryKey, from_query_key, from_scores, from_weights, restrict, reverse

from . import oracles
from .conformance import assert_close

N = 6


def stochastic(*batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*batch, N, N, dtype=dtype).softmax(-1)


def qk(*batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    q, k = torch.randn(2, *batch, N, 4, dtype=dtype)
    return q, k


def query_key(q: Tensor, k: Tensor, **options: Any) -> QueryKey:
    return from_query_key(q, k, **({"scale": None, "mask": None, "is_causal": False} | options))


def says(error: pytest.ExceptionInfo[BaseException], parts: Sequence[str]) -> None:
    message = str(error.value)
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"


class AttentionCalls(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "scaled_dot_product" in func.__name__
        return func(*args, **(kwargs or {}))


# ---- weights


def spoiled(index: tuple[int, ...], value: float, *batch: int) -> Tensor:
    a = stochastic(*batch)
    a[index] = value
    return a


SAMPLE = "trace.select(sample=…)"  # what mostly attends to nothing is padding of another sample of the batch

BAD_WEIGHTS: dict[str, tuple[Tensor, list[str]]] = {
    "row off": (
        spoiled((0, 3, 2), 0.9, 2).mul_(torch.tensor([1.0, 1, 1, 1, 1, 1])[:, None]),
        ["row [0, 3]", "expected 1 within 0.0001", "from_scores"],
    ),
    "NaN": (spoiled((1, 2), math.nan), ["weight [1, 2] is nan", "expected a probability", "drop such tokens", SAMPLE]),
    "infinite": (spoiled((4, 0), math.inf), ["weight [4, 0] is inf", "expected a probability"]),
    "negative": (spoiled((1, 5, 5), -0.25, 2), ["weight [1, 5, 5] is -0.25", "≥ 0", "from_scores"]),
    "masked row": (
        stochastic() * (torch.arange(N) != 2)[:, None],
        ["row [2] sums to 0", "fully masked", SAMPLE],
    ),
    "rectangular": (torch.full((2, 3, 4), 0.25), ["(2, 3, 4)", "(*batch, N, N)", "cross-attention"]),
    "a vector": (torch.full((4,), 0.25), ["(4,)", "(*batch, N, N)"]),
    "a number": (torch.tensor(1.0), ["()", "(*batch, N, N)"]),
    "no tokens": (torch.zeros(2, 0, 0), ["(2, 0, 0)", "empty", "at least one token"]),
    "no heads": (torch.zeros(0, 3, 3), ["(0, 3, 3)", "empty", "one matrix"]),
    "integers": (torch.eye(3, dtype=torch.long), ["torch.int64", "floating-point", "from_scores"]),
    "booleans": (torch.eye(3, dtype=torch.bool), ["torch.bool", "floating-point"]),
    "complex": (torch.eye(3, dtype=torch.complex64), ["torch.complex64", "floating-point"]),
    "logits": (torch.full((3, 3), 2.0), ["row [0] sums to 6", "from_scores"]),
    "huge logits": (torch.full((3, 3), 3e38), ["row [0]", "from_scores"]),
}


@pytest.mark.parametrize(("weights", "parts"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights(weights: Tensor, parts: list[str]) -> None:
    with pytest.raises(ChainError) as error:
        from_weights(weights)
    says(error, parts)
    assert isinstance(error.value, TokenRankError)
    assert isinstance(error.value, ValueError)


def test_half_precision_row_sums_are_divided_out() -> None:
    """Rows that sum to 0.998 are what rounding to float16 makes of softmax: no error, and no lost mass."""
    a = torch.full((2, 4, 4), 0.2495, dtype=torch.float16)
    assert a.double().sum(-1).sub(0.998).abs().max() < 1e-3
    operator = from_weights(a)
    assert operator.dtype == torch.float32
    assert_close(operator.to_dense(), torch.full((2, 4, 4), 0.25), torch.float32)
    assert_close(operator.to_dense(torch.float64).sum(-1), torch.ones(2, 4), torch.float64)


def test_the_same_rows_in_single_precision_are_an_error_with_the_cure() -> None:
    with pytest.raises(ChainError) as error:
        from_weights(torch.full((2, 4, 4), 0.2495))
    says(error, ["row [0, 0] sums to 0.998", "expected 1 within 0.0001", "divide each row", "half-precision"])


@pytest.mark.parametrize(("dtype", "size"), [(torch.float16, 3e-3), (torch.bfloat16, 2.5e-2)])
def test_half_precision_from_a_model(dtype: torch.dtype, size: float) -> None:
    """Weights rounded to half precision, 300 tokens: accepted, and close to what was rounded."""
    a = torch.randn(3, 300, 300, dtype=torch.float64).mul(3).softmax(-1)
    rounded = from_weights(a.to(dtype)).to_dense(torch.float64)
    assert_close(rounded.sum(-1), torch.ones(3, 300), torch.float64)
    assert (rounded - a).abs().sum(-1).max() < size


def test_half_precision_too_far_off() -> None:
    with pytest.raises(ChainError) as error:
        from_weights(torch.full((4, 4), 0.24, dtype=torch.float16))
    says(error, ["row [0] sums to 0.95996", "within 0.004"])


def test_exact_rows_are_left_alone() -> None:
    a = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    assert torch.equal(from_weights(a).to_dense(), a)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_causal_weights_are_recognised(n: int) -> None:
    a = torch.rand(2, n, n).tril()
    assert from_weights(a / a.sum(-1, keepdim=True)).structure == "lower"
    assert from_weights(torch.eye(n)).structure == "lower"


def test_almost_causal_weights_are_not() -> None:
    a = torch.rand(2, 5, 5).tril()
    a[1, 2, 4] = 1e-12
    assert from_weights(a / a.sum(-1, keepdim=True)).structure == "full"
    first_row = torch.rand(5, 5)
    first_row[0] = torch.eye(5)[0]
    assert from_weights(first_row / first_row.sum(-1, keepdim=True)).structure == "full"


# ---- logits


def test_scores() -> None:
    scores = 5 * torch.randn(2, N, N, dtype=torch.float64)
    scores[:, :, 3] = -math.inf
    assert_close(from_scores(scores).to_dense(), scores.softmax(-1), torch.float64)


def test_half_precision_scores_are_widened_first() -> None:
    scores = torch.randn(N, N).half()
    assert_close(from_scores(scores).to_dense(), scores.double().softmax(-1), torch.float32)


def test_causal_scores_are_recognised() -> None:
    scores = torch.randn(N, N).masked_fill(torch.ones(N, N, dtype=torch.bool).triu(1), -math.inf)
    assert from_scores(scores).structure == "lower"


def with_value(index: tuple[int, ...], value: float) -> Tensor:
    scores = torch.randn(2, N, N)
    scores[index] = value
    return scores


BAD_SCORES: dict[str, tuple[Tensor, list[str]]] = {
    "NaN": (with_value((1, 0, 2), math.nan), ["logit [1, 0, 2] is nan", "finite", "overflow"]),
    "+inf": (with_value((0, 0, 2), math.inf), ["logit [0, 0, 2] is inf", "finite"]),
    "masked row": (
        with_value((1, 4), -math.inf),
        ["row [1, 4] is fully masked", "token 4", "drop such", SAMPLE],
    ),
    "lowest numbers": (with_value((1, 4), torch.finfo(torch.float32).min), ["row [1, 4] is fully masked"]),
    "rectangular": (torch.randn(2, 3, 5), ["(2, 3, 5)", "(*batch, N, N)"]),
    "empty": (torch.randn(0, 0), ["(0, 0)", "empty"]),
    "integers": (torch.ones(3, 3, dtype=torch.long), ["torch.int64", "floating-point"]),
}


@pytest.mark.parametrize(("scores", "parts"), BAD_SCORES.values(), ids=BAD_SCORES)
def test_bad_scores(scores: Tensor, parts: list[str]) -> None:
    with pytest.raises(ChainError) as error:
        from_scores(scores)
    says(error, parts)


# ---- queries and keys


def test_default_scale() -> None:
    q, k = qk(2, dtype=torch.float64)
    assert_close(query_key(q, k).to_dense(), (q @ k.mT / math.sqrt(4)).softmax(-1), torch.float64)


def test_half_precision_queries_are_widened() -> None:
    q, k = qk(2)
    operator = query_key(q.half(), k.half())
    assert operator.dtype == torch.float32
    assert_close(operator.to_dense(), oracles.attention(q.half(), k.half()), torch.float32)


@pytest.mark.parametrize(
    ("of_q", "of_k", "result"),
    [
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.float32, torch.float32),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_queries_and_keys_of_different_precision(of_q: torch.dtype, of_k: torch.dtype, result: torch.dtype) -> None:
    """The wider of the two, and never below float32; nothing that was given is rounded away."""
    q, k = qk(2, dtype=torch.float64)
    operator = query_key(q.to(of_q), k.to(of_k))
    assert operator.dtype == result
    assert_close(operator.to_dense(), oracles.attention(q.to(of_q), k.to(of_k)), result)


@pytest.mark.parametrize("is_causal", [False, True])
def test_grouped_heads(is_causal: bool) -> None:
    """Query head h uses key head h // 3, as in PyTorch's enable_gqa."""
    q, _ = qk(2, 6)
    _, k = qk(2, 2)
    operator = query_key(q, k, is_causal=is_causal)
    for head in range(6):
        expected = oracles.attention(q[:, head], k[:, head // 3], is_causal=is_causal)
        assert_close(operator.to_dense()[:, head], expected, torch.float32)


def masked(rows: Sequence[int] = (), columns: Sequence[int] = ()) -> Tensor:
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[list(rows)] = False
    mask[:, list(columns)] = False
    return mask


def spoiled_qk(which: int, value: float) -> tuple[Tensor, Tensor]:
    pair = qk(2)
    pair[which][1, 3, 0] = value
    return pair


BAD_QUERY_KEY: dict[str, tuple[tuple[Tensor, Tensor], dict[str, Any], list[str]]] = {
    "no head dimension of vectors": ((torch.randn(4), torch.randn(4)), {}, ["(4,)", "(*batch, heads, N, d)"]),
    "widths differ": ((torch.randn(2, 5, 4), torch.randn(2, 5, 3)), {}, ["(2, 5, 4)", "(2, 5, 3)", "heads, N, d"]),
    "dimensions differ": ((torch.randn(2, 5, 4), torch.randn(5, 4)), {}, ["(2, 5, 4)", "(5, 4)"]),
    "cross-attention": ((torch.randn(2, 5, 4), torch.randn(2, 7, 4)), {}, ["(2, 5, 7)", "cross-attention"]),
    "empty": ((torch.randn(2, 0, 4), torch.randn(2, 0, 4)), {}, ["(2, 0, 0)", "empty"]),
    "heads are no multiple": (
        (torch.randn(3, 5, 4), torch.randn(2, 5, 4)),
        {},
        ["(3,)", "(2,)", "multiple of the key heads"],
    ),
    "more key heads": ((torch.randn(2, 5, 4), torch.randn(4, 5, 4)), {}, ["(2,)", "(4,)", "multiple"]),
    "batches differ": ((torch.randn(2, 3, 5, 4), torch.randn(4, 3, 5, 4)), {}, ["(2, 3)", "(4, 3)"]),
    "NaN in q": (spoiled_qk(0, math.nan), {}, ["q [1, 3, 0] is nan", "finite", "half precision?"]),
    "inf in k": (spoiled_qk(1, -math.inf), {}, ["k [1, 3, 0] is -inf", "finite"]),
    "scale of zero": (qk(2), {"scale": 0.0}, ["scale is 0.0", "positive", "1/√d"]),
    "negative scale": (qk(2), {"scale": -1.0}, ["scale is -1.0", "positive"]),
    "scale NaN": (qk(2), {"scale": math.nan}, ["scale is nan", "positive"]),
    "mask too small": (qk(2), {"mask": torch.ones(3, 3).bool()}, ["(3, 3)", "broadcasts to (2, 6, 6)"]),
    "mask with more chains": (qk(2), {"mask": torch.ones(4, 1, N, N).bool()}, ["(4, 1, 6, 6)", "(2, 6, 6)"]),
    "mask of integers": (qk(2), {"mask": torch.ones(N, N).long()}, ["torch.int64", "bool", "mask.bool()"]),
    "NaN in mask": (qk(2), {"mask": torch.full((N, N), math.nan)}, ["NaN", "−inf"]),
    "+inf in mask": (qk(2), {"mask": torch.full((N, N), math.inf)}, ["+inf", "−inf"]),
    "masked row": (
        qk(2),
        {"mask": masked(rows=[4])},
        ["row [4] is fully masked", "token 4", "drop such tokens", "padding", SAMPLE],
    ),
    "masked row of one chain": (
        qk(2),
        {"mask": torch.stack([masked(), masked(rows=[1])])},
        ["row [1, 1] is fully masked", "token 1"],
    ),
    "masked by lowest numbers": (
        qk(2),
        {"mask": torch.zeros(N, N).masked_fill(~masked(rows=[2]), torch.finfo(torch.float32).min)},
        ["row [2] is fully masked"],
    ),
    "all keys padded": (qk(2), {"mask": torch.zeros(N).bool()}, ["fully masked", "token 0", SAMPLE]),
    "left padding of a causal chain": (
        qk(2),
        {"mask": torch.arange(N) >= 2, "is_causal": True},
        ["row [0] is fully masked", "token 0", SAMPLE],
    ),
    "causal beside a mask of the past": (
        qk(2),
        {"mask": torch.ones(N, N).triu(1).bool() | torch.eye(N).bool() & (torch.arange(N) != 3), "is_causal": True},
        ["row [3] is fully masked"],
    ),
    "integers": ((torch.ones(2, 5, 4).long(), torch.ones(2, 5, 4).long()), {}, ["torch.int64", "floating-point"]),
}


@pytest.mark.parametrize(("pair", "options", "parts"), BAD_QUERY_KEY.values(), ids=BAD_QUERY_KEY)
def test_bad_queries_and_keys(pair: tuple[Tensor, Tensor], options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ChainError) as error:
        query_key(*pair, **options)
    says(error, parts)


def test_logits_beyond_the_dtype() -> None:
    """Finite queries and keys whose products are not; no call may hang or return NaN."""
    q, k = (1e20 * t for t in qk(2))
    with pytest.raises(ChainError) as error:
        query_key(q, k)
    says(error, ["logits may reach", "1e+29", "overflow in the model"])


def test_causal_by_mask_stays_causal() -> None:
    q, k = qk(2)
    operator = query_key(q, k, mask=torch.ones(N, N, dtype=torch.bool).tril())
    assert operator.structure == "lower"
    assert operator.index(0).structure == "lower"
    assert restrict(operator, torch.tensor([0, 2, 3])).structure == "lower"


@pytest.mark.parametrize("low", [-1e4, torch.finfo(torch.float16).min, torch.finfo(torch.float32).min, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_models_write_for_minus_infinity(low: float, dtype: torch.dtype) -> None:
    """Padding as an additive mask: all of the usual low numbers give a padded key no weight."""
    q, k = qk(2, dtype=dtype)
    padding = torch.zeros(N, dtype=dtype).masked_fill(torch.arange(N) >= 4, low)
    operator = query_key(q, k, mask=padding)
    expected = oracles.attention(q, k, mask=torch.arange(N) < 4)
    x = torch.randn(2, N, 2, dtype=dtype)
    assert_close(operator.matmul(x), expected @ x.double(), dtype)
    assert_close(operator.rmatmul(x), expected.mT @ x.double(), dtype)
    assert_close(operator.diagonal(), expected.diagonal(dim1=-2, dim2=-1), dtype)


@pytest.mark.parametrize("low", [-1e4, torch.finfo(torch.float16).min])
def test_low_numbers_cost_no_more_calls(low: float) -> None:
    """The normaliser is found in a few attention calls, however far away the padding lies."""
    q, k = torch.randn(2, 1, 64, 4)
    operator = query_key(q, k, mask=torch.zeros(64).masked_fill(torch.arange(64) >= 60, low))
    with AttentionCalls() as seen:
        operator.rmatmul(torch.ones(1, 64, 1))
    assert 1 <= seen.count <= 8


@pytest.mark.parametrize("is_causal", [False, True])
def test_logits_of_hundreds(is_causal: bool) -> None:
    """Weights underflow, logits carry a rounding of 1e-5 in float32 whatever is done; nothing overflows."""
    q, k = (20 * t for t in qk(2, dtype=torch.float64))
    expected = oracles.attention(q, k, is_causal=is_causal)
    x = torch.randn(2, N, 2, dtype=torch.float64)
    operator = query_key(q, k, is_causal=is_causal)
    assert_close(operator.matmul(x), expected @ x, torch.float64)
    assert_close(operator.rmatmul(x), expected.mT @ x, torch.float64)
    single = query_key(q.float(), k.float(), is_causal=is_causal)
    found = single.rmatmul(x.float())
    assert torch.isfinite(found).all()
    assert (found - oracles.attention(q.float(), k.float(), is_causal=is_causal).mT @ x).abs().max() < 1e-3


# ---- chains made from chains


def test_reversing_a_token_that_nobody_attends_to() -> None:
    q, k = qk(3)
    with pytest.raises(ChainError) as error:
        reverse(query_key(q, k, mask=torch.arange(N) != 4))
    says(error, ["token 4", "attended to by nobody", "restrict", SAMPLE])


def test_reversing_dense_with_an_empty_column() -> None:
    a = torch.full((2, 3, 3), 1 / 3)
    a[1] = torch.tensor([0.5, 0.0, 0.5])
    with pytest.raises(ChainError) as error:
        reverse(from_weights(a))
    says(error, ["token 1 of chain [1] is attended to by nobody"])


@pytest.mark.parametrize("build", ["weights", "query_key", "padded"])
def test_restricting_to_tokens_that_send_nothing_there(build: str) -> None:
    """Token 1 looks at token 3 alone, and token 3 is not kept."""
    mask = torch.ones(N, N, dtype=torch.bool)
    mask[1] = torch.arange(N) == 3
    q, k = qk(2)
    if build == "weights":
        operator: Dense | QueryKey = from_weights(oracles.attention(q, k, mask=mask))
    elif build == "query_key":
        operator = query_key(q, k, mask=mask)
    else:
        operator, keep = query_key(q, k, mask=torch.arange(N) < 3), torch.tensor([3, 4])
    keep = torch.tensor([3, 4]) if build == "padded" else torch.tensor([0, 1, 2])
    with pytest.raises(ChainError) as error:
        restrict(operator, keep)
    says(error, ["token 3" if build == "padded" else "token 1", "keep", SAMPLE])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda t: t.to("meta"), r"q is on the device 'meta' and holds no numbers"),
        (lambda t: t.to(torch.float8_e4m3fn), r"q is torch.float8_e4m3fn, expected float16, bfloat16"),
        (lambda t: t[..., :0], r"q has shape \(2, 5, 0\), expected at least one dimension d"),
    ],
)
@pytest.mark.parametrize("path", ["host", "device"])
def test_tensors_that_hold_no_logits(changed: Any, words: str, path: Any) -> None:
    q, k = map(changed, torch.randn(2, 2, 5, 4))
    with pytest.raises(ChainError, match=words):
        from_query_key(q, k, None, None, False, path)
