from __future__ import annotations

import pytest
import torch

import tokenrank as tr
from benchmarks.peak import peak_gb
from tests.tasks.test_cluster import rows
from tokenrank.errors import InputError
from tokenrank.tasks.resolutions import aggregate_resolutions


def test_resolutions_are_joined_as_written_out():
    coarse, fine, other = rows(6, 6), rows(24, 24, 1), rows(24, 24, 2)
    found = aggregate_resolutions([(coarse, (2, 3)), (fine, (4, 6)), (other, (4, 6))])
    expected = torch.zeros(24, 24, dtype=torch.float64)
    for query in range(24):
        row, column = divmod(query, 6)
        keys = coarse[(row // 2) * 3 + column // 2].reshape(1, 1, 2, 3)
        up = torch.nn.functional.interpolate(keys, (4, 6), mode="bilinear", align_corners=False).flatten()
        side = 6**0.5, 24**0.5
        mean = (fine[query] + other[query]) / 2
        expected[query] = (side[0] * up / up.sum() + side[1] * mean) / sum(side)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(found.sum(-1), torch.ones(24).double())


def test_weights_of_the_paper_are_the_sides():
    maps = [(torch.full((s * s, s * s), 1 / (s * s)).double(), (s, s)) for s in (1, 2)]
    maps[0] = (torch.ones(1, 1).double(), (1, 1))
    maps[1] = (torch.eye(4).double(), (2, 2))
    found = aggregate_resolutions(maps)
    assert torch.allclose(found, (torch.full((4, 4), 0.25) + 2 * torch.eye(4)).double() / 3)


def test_maps_that_do_not_fit_their_grid_are_refused():
    with pytest.raises(InputError, match="2 × 2"):
        aggregate_resolutions([(rows(6, 6), (2, 2))])
    with pytest.raises(InputError, match="no attention"):
        aggregate_resolutions([])


def whole(maps: list[tuple[torch.Tensor, tuple[int, int]]], grid: tuple[int, int]) -> torch.Tensor:
    """The same with everything in memory, in float64."""
    groups: dict[tuple[int, int], list[torch.Tensor]] = {}
    for weights, own in maps:
        groups.setdefault(own, []).append(weights.double().reshape(-1, *weights.shape[-2:]).mean(0))
    total = torch.zeros(grid[0] * grid[1], grid[0] * grid[1], dtype=torch.float64)
    for own, layers in groups.items():
        mean = torch.stack(layers).mean(0).reshape(-1, 1, *own)
        keys = torch.nn.functional.interpolate(mean, grid, mode="bilinear", align_corners=False).flatten(1)
        rows_, columns = (torch.arange(n) * o // n for n, o in zip(grid, own, strict=True))
        queries = (rows_[:, None] * own[1] + columns).flatten()
        keys = keys if own == grid else keys / keys.sum(-1, keepdim=True)
        total += (own[0] * own[1]) ** 0.5 * keys[queries]
    return total / total.sum(-1, keepdim=True)


GRIDS = ((4, 7), (8, 14), (3, 5), (16, 28), (8, 14), (16, 28))


def chains(heads: int = 3) -> list[tuple[tr.AttentionChain, tuple[int, int]]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for rows_, columns in GRIDS:
        q, k = torch.randn(2, heads, rows_ * columns, 6, generator=generator)
        made.append((tr.AttentionChain.from_qk(q, k), (rows_, columns)))
    return made


@pytest.mark.parametrize("grid", [None, (16, 28), (8, 14), (10, 9)])
def test_chains_are_joined_as_their_matrices(grid: tuple[int, int] | None):
    dense = [(chain.to_dense(), own) for chain, own in chains()]
    expected = whole(dense, grid or (16, 28))
    for maps in (chains(), iter(chains()), dense, [(w.half(), own) for w, own in dense]):
        found = aggregate_resolutions(maps, grid)
        assert found.dtype == torch.float32
        limit = 1e-6 if not isinstance(maps, list) or maps[0][0].dtype != torch.float16 else 1e-3
        assert (found.double() - expected).abs().max() < limit
        assert (found.double().sum(-1) - 1).abs().max() < 1e-6
    wide = aggregate_resolutions([(w.double(), own) for w, own in dense], grid)
    assert wide.dtype == torch.float64
    assert (wide - expected).abs().max() < 1e-14


def test_one_wide_layer_makes_the_answer_wide():
    dense = [(chain.to_dense(), own) for chain, own in chains()]
    for place in (0, 3, 5):
        mixed = [(w.double() if n == place else w, own) for n, (w, own) in enumerate(dense)]
        assert aggregate_resolutions(mixed).dtype == torch.float64


def test_many_layers_need_the_memory_of_one_matrix():
    """Six layers of 1,024 tokens and 6 heads, of which each would be a matrix of 4 MB."""

    def layers():  # type: ignore[no-untyped-def]
        generator = torch.Generator().manual_seed(0)
        for _ in range(6):
            q, k = torch.randn(2, 6, 1024, 8, generator=generator)
            yield tr.AttentionChain.from_qk(q, k), (32, 32)

    aggregate_resolutions(layers())  # what is loaded and kept at first
    assert peak_gb(lambda: aggregate_resolutions(layers())) < 0.05  # all layers are 0.15 GB


def test_what_is_no_attention_is_refused():
    with pytest.raises(InputError, match="int64, expected probabilities"):
        aggregate_resolutions([(torch.eye(4, dtype=torch.long), (2, 2))])
