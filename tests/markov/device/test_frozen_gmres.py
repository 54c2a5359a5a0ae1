"""GMRES of all heads at once: right where a Krylov space is large, closed or of no use; heads that are done rest."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.dispatch import Watch
from tokenrank.markov.engine.frozen_gmres import DIMENSION, LOOK, FrozenGMRES
from tokenrank.markov.engine.graphs import repeated

ALPHA, CPU = 0.95, torch.device("cpu")


def chains(n: int) -> Tensor:
    """Rank one, a random chain, a permutation of three cycles, a chain with λ2 close to one, the identity."""
    g = torch.Generator().manual_seed(0)
    some = torch.rand(n, n, generator=g).pow(3)
    cycles = torch.arange(n).reshape(3, -1).roll(1, 1).flatten()
    half = torch.arange(n) < n // 2
    apart = torch.where(half[:, None] == half, 1.0, 1e-3)
    found = torch.stack([torch.ones(n, n), some, torch.eye(n)[cycles], apart, torch.eye(n)])
    return found / found.sum(-1, keepdim=True)


def solver(a: Tensor, asked: list[Tensor] | None = None) -> FrozenGMRES:
    def product(x: Tensor, live: Tensor) -> Tensor:
        if asked is not None:
            asked.append(live.clone())
        return torch.where(live[:, None, None], a.mT @ x, 0.0)

    return FrozenGMRES(product, ALPHA, len(a), a.shape[-1], CPU)


def test_what_it_says_is_left_is_left_and_heads_that_are_done_rest():
    n, asked = 48, []
    a = chains(n)
    r = torch.randn(5, n, generator=torch.Generator().manual_seed(1))
    r[3] = 0.0  # nothing to solve for
    r = r / r.abs().sum(-1, keepdim=True).clamp(min=1e-30)
    wanted = torch.full((5,), 1e-5)
    d, left, spent = solver(a, asked).solve(r, wanted, 1000)
    exact = r.double() + ALPHA * (d.double()[:, None] @ a.double())[:, 0] - d.double()
    assert torch.isfinite(d).all()
    assert bool((left <= wanted).all())
    assert bool(((exact.abs().sum(-1) - left.double()).abs() < 3e-6).all())
    assert spent % LOOK == 0
    assert spent <= DIMENSION
    rests = torch.stack(asked)
    # a head that rests never works again; rank one and the identity close their space at once
    assert bool((rests[1:] <= rests[:-1]).all())
    assert rests.sum(0).tolist()[0] <= 3
    assert rests.sum(0).tolist()[3:] == [0, 1]


def test_closed_spaces_are_left_and_give_numbers_when_more_is_asked_for_than_single_precision_holds():
    n = 48
    a = chains(n)
    r = torch.randn(5, n, generator=torch.Generator().manual_seed(1))
    r = r / r.abs().sum(-1, keepdim=True)
    asked: list[Tensor] = []
    d, left, _ = solver(a, asked).solve(r, torch.zeros(5), 1000)
    assert torch.isfinite(d).all()
    assert torch.isfinite(left).all()
    exact = r.double() + ALPHA * (d.double()[:, None] @ a.double())[:, 0] - d.double()
    assert bool((exact.abs().sum(-1) < 1e-4).all())
    # rank one has a space of two dimensions, the identity of one, cycles of 16 tokens of 16
    assert torch.stack(asked).sum(0)[[0, 2, 4]].tolist() == [2, 16, 1]


def test_a_further_right_hand_side_goes_on_in_the_space_until_it_is_full():
    n = 48
    a = chains(n)[1:4]
    g = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 3, n, generator=g)
    wanted = torch.full((3,), 1e-4)
    one = solver(a)
    one.solve(first, wanted, 2 * LOOK)
    for rhs in (first, second):
        d, left, _ = one.solve(rhs, wanted, LOOK)
        assert not one.fresh
        exact = rhs.double() + ALPHA * (d.double()[:, None] @ a.double())[:, 0] - d.double()
        assert bool(((exact.abs().sum(-1) - left.double()).abs() < 2e-4).all())
    for rhs in torch.randn(3, 3, n, generator=g):
        one.solve(rhs, wanted, LOOK)
    again, alone = one.solve(second, wanted, 1000), solver(a).solve(second, wanted, 1000)
    assert one.fresh
    assert torch.equal(again[0], alone[0])
    assert again[2] == alone[2]


def test_what_a_space_holds_is_solved_for_without_a_product():
    a = chains(48)[1:2]
    r = torch.randn(1, 48, generator=torch.Generator().manual_seed(4))
    wanted = torch.full((1,), 1e-3)
    one = solver(a)
    found, _, spent = one.solve(r, wanted, 1000)
    again, _, more = one.solve(2 * r, 3 * wanted, 1000)
    assert (spent > 0, more) == (True, LOOK)  # steps of heads that rest: the look comes after them
    assert torch.allclose(again, 2 * found, rtol=1e-3, atol=1e-4)


def test_a_step_is_one_list_of_operations_without_a_look():
    a = chains(48)
    one = solver(a)
    r = torch.randn(5, 48, generator=torch.Generator().manual_seed(3))
    one.solve(r, torch.zeros(5), LOOK)
    with Watch() as product:
        one.product(r[..., None], torch.ones(5, dtype=torch.bool))
    seen = []
    for _ in range(3):
        with Watch() as step:
            one._step()
        seen.append(step.ops)
        assert not step.waits
        assert step.count - product.count <= 40
    assert seen[0] == seen[1] == seen[2]


def test_steps_are_called_as_they_are_where_nothing_is_recorded():
    count = []
    run = repeated(lambda: count.append(1), CPU)
    run(3)
    run(0)
    run(2)
    assert len(count) == 5


def test_a_direction_that_the_space_holds_already_stops_a_head_and_spoils_nothing():
    """All steps lead to token 0, and v is orthogonal to (I − α Aᵀ) v: v is no shorter after one step in its direction,
    and as the next right-hand side it is the direction that was taken before. What is new in it is rounding.
    """
    a = torch.zeros(2, 48, 48)
    a[0, :, 0] = 1.0
    a[1] = chains(48)[1]
    v = torch.zeros(2, 48)
    v[0, 0], v[0, 1] = 1.0, (ALPHA - (ALPHA**2 - 4 * (1 - ALPHA)) ** 0.5) / 2
    v[1] = torch.randn(48, generator=torch.Generator().manual_seed(1))
    v = v / v.abs().sum(-1, keepdim=True)
    one, wanted = solver(a), torch.zeros(2)
    _, left, _ = one.solve(v, wanted, 1)
    assert float((left - 1).abs()[0]) < 1e-5, "the case shows nothing"
    d, left, _ = one.solve(v, wanted, LOOK)
    assert not one.fresh
    exact = v.double() + ALPHA * (d.double()[:, None] @ a.double())[:, 0] - d.double()
    assert bool(((exact.abs().sum(-1) - left.double()).abs() < 3e-6).all())
    assert float(d[0].abs().max()) < 10
    # the other head goes on
    assert float(left[1]) < 1e-2
