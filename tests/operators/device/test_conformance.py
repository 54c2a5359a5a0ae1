"""Queries and keys on the device path, through the whole of the conformance tests."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tokenrank.operators import Mixture, Operator, from_query_key, reverse

from .. import oracles
from ..conformance import OperatorConformance
from ..test_conformance import D, N, queries_and_keys


class Device(OperatorConformance):
    """A chain on the device path, and everything made from it; leading dimensions are those that say most."""

    @pytest.fixture(params=[(2, 1, 3)], ids=["2x1x3"])
    def batch(self, request: pytest.FixtureRequest) -> tuple[int, ...]:
        return request.param

    @pytest.fixture
    def operator(self, case: tuple[Operator, Tensor]) -> Operator:
        operator = case[0]
        parts = [operator, operator.index(), operator.reshape(operator.batch.numel()), reverse_or_itself(operator)]
        assert {part.path for part in parts} == {"device"}
        return operator


def reverse_or_itself(operator: Operator) -> Operator:
    return operator if bool((operator.column_sums() == 0).any()) else reverse(operator)


class TestOneHeadOfAHundredNats(Device):
    """Logarithms of its sums lie 100 nats apart and are no linear function of its queries; the other heads' are near.

    Entries of few bits: logits are exact in single precision, so that the tolerance is that of sums.
    """

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = ((8 * t).round() / 8 for t in queries_and_keys(batch, torch.float64))
        q[..., -1, :, :] = torch.tensor([-6.0, 5.0, 0.0, 0.5, 3.0, -1.0, 2.0, -0.5, 0.25])[:, None] * torch.eye(D)[0]
        k[..., -1, :, 0] = torch.linspace(-16, 16, N).round()
        q, k = q.to(dtype), k.to(dtype)
        r = (q.double() @ k.double().mT).logsumexp(-1)
        apart = r.amax(-1) - r.amin(-1)
        assert apart[..., -1].min() > 90
        assert apart[..., :-1].max() < 30
        return from_query_key(q, k, 1.0, None, False, "device"), oracles.attention(q, k, 1.0)


class TestCausalAndPaddedDifferently(Device):
    structure = "lower"

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        bias = 3 * torch.randn(*batch, 1, N, dtype=dtype)
        bias = bias.masked_fill(torch.arange(N) >= torch.randint(5, N + 1, (*batch, 1, 1)), -math.inf)
        return from_query_key(q, k, 0.3, bias, True, "device"), oracles.attention(q, k, 0.3, bias, True)


class TestPadded(Device):
    """The same tokens in all heads: their keys are left out."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = torch.arange(N) < N - 2
        return from_query_key(q, k, None, mask, False, "device"), oracles.attention(q, k, mask=mask)


class TestReversedMixture(Device):
    """Turned round with respect to a measure for each head, and restricted by turning once more."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys((*batch, 3), dtype)
        w = oracles.rows_to_one(torch.rand(*batch, 3))
        operator = Mixture(from_query_key(q, k, None, None, False, "device"), w)
        return reverse(operator), oracles.reverse(oracles.mix(oracles.attention(q, k), w))


class TestMasked(Device):
    """A mask of its own goes by chunks of rows."""

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, dtype)
        mask = (torch.rand(*batch, N, N) > 0.5) | torch.eye(N, dtype=torch.bool)
        return from_query_key(q, k, None, mask, False, "device"), oracles.attention(q, k, mask=mask)


class TestHalves(Device):
    """Queries and keys stay in the half precision that they came in; single precision is asked of products."""

    @pytest.fixture(params=[torch.float32], ids=["f32"])
    def dtype(self, request: pytest.FixtureRequest) -> torch.dtype:
        return request.param

    def make(self, batch: tuple[int, ...], dtype: torch.dtype) -> tuple[Operator, Tensor]:
        q, k = queries_and_keys(batch, torch.bfloat16)
        operator = from_query_key(q, k, None, None, False, "device")
        assert operator.q.dtype == torch.bfloat16
        return operator, oracles.attention(q, k)
