"""Each rule of relevance propagation against its formula in loops, and what it conserves."""

from __future__ import annotations

import pytest
import torch

from tokenrank.baselines.relevance_rules import Average, Identity, PositiveLinear, Product, Sum, ratio


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(11)

    def of_shape(*shape, carries=True):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(carries)

    return of_shape


def relevance_of(out, relevance, *inputs):
    return torch.autograd.grad(out, inputs, relevance)


def test_ratio_is_zero_where_nothing_contributes():
    found = ratio(torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0.0, 2.0, -1.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, -2.0, 3.0]))


def test_linear_map_shares_by_positive_contributions(draw):
    x, w, relevance = draw(3, 8), draw(4, 8, carries=False), draw(3, 4, carries=False)
    bias = draw(4, carries=False)
    out = PositiveLinear.apply(x, w, torch.nn.functional.linear, lambda: torch.nn.functional.linear(x, w, bias))
    torch.testing.assert_close(out, x @ w.T + bias)
    (found,) = relevance_of(out, relevance, x)
    expected = torch.zeros(3, 8, dtype=torch.float64)
    for n in range(3):
        for i in range(4):
            pushes = [max((x[n, j] * w[i, j]).item(), 0.0) for j in range(8)]
            for j in range(8):
                expected[n, j] += pushes[j] / sum(pushes) * relevance[n, i]
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(found.sum(-1), relevance.sum(-1), atol=1e-7, rtol=1e-7)


def test_linear_output_that_nothing_pushes_up_loses_its_relevance():
    x, w = torch.tensor([[1.0, 2.0]], requires_grad=True), torch.tensor([[-1.0, -1.0], [1.0, 0.0]])
    out = PositiveLinear.apply(x, w, torch.nn.functional.linear, lambda: x @ w.T)
    (found,) = relevance_of(out, torch.tensor([[5.0, 3.0]]), x)
    torch.testing.assert_close(found, torch.tensor([[3.0, 0.0]]))


@pytest.mark.parametrize(
    ("entries", "expected"), [([1.0, -2.0, 3.0], [2.0, 0.0, 6.0]), ([-1.0, 2.0, -3.0], [2.0, 0.0, 6.0])]
)
def test_mean_shares_among_entries_of_its_own_sign(entries, expected):
    x = torch.tensor([entries], requires_grad=True)
    out = Average.apply(x, lambda x: x.mean(-1))
    assert out.item() == pytest.approx(sum(entries) / 3)
    (found,) = relevance_of(out, torch.tensor([8.0]), x)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_product_gives_each_factor_half_by_contribution(draw):
    a, v, relevance = draw(2, 3), draw(3, 4), draw(2, 4, carries=False)
    out = Product.apply(a, v, torch.matmul)
    to_a, to_v = relevance_of(out, relevance, a, v)
    z = a @ v
    for i in range(2):
        for j in range(3):
            expected = sum(a[i, j] * v[j, c] / z[i, c] * relevance[i, c] for c in range(4)) / 2
            assert to_a[i, j].item() == pytest.approx(expected.item(), rel=1e-6)
    for j in range(3):
        for c in range(4):
            expected = sum(a[i, j] * v[j, c] / z[i, c] * relevance[i, c] for i in range(2)) / 2
            assert to_v[j, c].item() == pytest.approx(expected.item(), rel=1e-6)
    for part in (to_a, to_v):
        torch.testing.assert_close(part.sum(), relevance.sum() / 2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.5])
def test_sum_conserves_relevance_and_splits_as_the_paper_says(draw, factor):
    x, y, relevance = draw(3, 4), draw(3, 4), draw(3, 4, carries=False)
    out = Sum.apply(x, y, factor)
    torch.testing.assert_close(out, x + factor * y)
    to_x, to_y = relevance_of(out, relevance, x, y)
    torch.testing.assert_close(to_x.sum() + to_y.sum(), relevance.sum(), rtol=1e-6, atol=0)
    u, v = x / out * relevance, factor * y / out * relevance
    size = abs(u.sum()) + abs(v.sum())
    torch.testing.assert_close(to_x, u * abs(u.sum()) / size * relevance.sum() / u.sum(), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(to_y, v * abs(v.sum()) / size * relevance.sum() / v.sum(), rtol=1e-6, atol=1e-12)


def test_sum_that_broadcasts_returns_the_shapes_of_its_parts(draw):
    x, y, relevance = draw(3, 4), draw(1, 4), draw(3, 4, carries=False)
    to_x, to_y = relevance_of(Sum.apply(x, y, 1.0), relevance, x, y)
    assert (to_x.shape, to_y.shape) == ((3, 4), (1, 4))
    torch.testing.assert_close(to_x.sum() + to_y.sum(), relevance.sum(), rtol=1e-6, atol=0)


def test_identity_passes_everything_and_sums_what_was_broadcast(draw):
    x, c, relevance = draw(1, 4), draw(3, 4, carries=False), draw(3, 4, carries=False)
    (found,) = relevance_of(Identity.apply(x, lambda: x + c), relevance, x)
    torch.testing.assert_close(found, relevance.sum(0, keepdim=True))
