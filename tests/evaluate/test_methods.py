"""Methods by name, options and all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tokenrank import baselines, samples
from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.methods import Query, describe, parse_methods


@pytest.fixture(scope="module")
def seen() -> tr.Observation:
    model = tr.load("bundled", size=64)
    return tr.observe(samples.path("chelsea"), model)


@pytest.mark.parametrize("name", list(describe()))
def test_every_method_gives_a_finite_map_of_the_patches(name: str, seen: tr.Observation) -> None:
    if name == "pytorch_grad_cam":
        pytest.importorskip("pytorch_grad_cam")
    (method,) = parse_methods(f"{name}:layer=2" if name in ("tokencut", "lost", "deep_spectral") else name)
    found = method.run(seen, Query(seed=tr.at(0.5, 0.5), random=3))
    assert found.values.shape == (len(seen.patches),)
    assert torch.isfinite(found.values).all()
    assert found.grid().shape == seen.grid


def test_options_reach_the_function(seen: tr.Observation) -> None:
    bounce, rank, row = parse_methods("bounce:n=3:layer=1:heads=lambda2, tokenrank:alpha=0.5,raw_row:layer=1")
    query = Query(seed=tr.at(0.2, 0.8))
    torch.testing.assert_close(bounce.run(seen, query).values, seen.chain(1, "lambda2").bounce(query.seed, 3).values)
    torch.testing.assert_close(rank.run(seen, query).values, seen.chain().tokenrank(alpha=0.5).values)
    torch.testing.assert_close(row.run(seen, query).values, seen.chain(1).bounce(query.seed, 1).values)


def test_bounces_from_cls_are_over_all_tokens(seen: tr.Observation) -> None:
    (method,) = parse_methods("cls_bounce:n=2:layer=4:heads=uniform")
    a = seen.head_chains(4, "all").to_dense().double().mean(0)
    torch.testing.assert_close(method.run(seen, Query()).values.double(), (a @ a)[0, seen.patches.start :])


def test_random_maps_follow_the_query(seen: tr.Observation) -> None:
    (method,) = parse_methods("random")
    one, two = (method.run(seen, Query(random=r)).values for r in (1, 2))
    torch.testing.assert_close(one, baselines.random_map(seen, random=1).values)
    assert not torch.equal(one, two)


def test_the_lattice_knows_nothing_of_attention(seen: tr.Observation) -> None:
    (method,) = parse_methods("lattice")
    grid = method.run(seen, Query()).grid()
    torch.testing.assert_close(grid, grid.flip(0))
    torch.testing.assert_close(grid, grid.flip(1))
    assert grid[0].abs().max() == 0


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", InputError, "no methods"),
        ("tokenrnk", NotFoundError, "tokenrank"),
        ("bounce:m=2", NotFoundError, "'m'"),
        ("bounce:n", InputError, "name=value"),
        ("bounce:n=1:n=2", InputError, "twice"),
        ("rollout,rollout", InputError, "twice"),
        ("tokenrank:observation=3", NotFoundError, "observation"),
    ],
)
def test_bad_names(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_methods(text)


def test_a_seed_is_asked_for(seen: tr.Observation) -> None:
    with pytest.raises(InputError, match="seed"):
        parse_methods("bounce")[0].run(seen, Query())


def test_what_there_is() -> None:
    asks, options = describe()["bounce"]
    assert asks == "seed"
    assert options["n"] == 2
    assert describe()["grad_cam"][0] == "class"


OWN = """
import tokenrank as tr

def norms(observation, *, layer=None, power=1):
    return observation.map(observation.features(layer).norm(dim=-1) ** power)

def nearness(observation, *, start=None):
    rows, columns = observation.grid
    place = observation.picture_layout.token_at(start)
    return observation.map((observation.features() @ observation.features()[place]).float())

@tr.baselines.register("registered_norms", needs=("features",), replace=True)
def registered(observation):
    return norms(observation)

broken = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_methods_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_of_ones_own_by_module_and_name(own: str, seen: tr.Observation) -> None:
    norms, squares, near = parse_methods(f"{own}:norms:layer=1,{own}:norms:power=2,{own}:nearness")
    torch.testing.assert_close(norms.run(seen, Query()).values, seen.features(1).norm(dim=-1))
    torch.testing.assert_close(squares.run(seen, Query()).values, seen.features(None).norm(dim=-1) ** 2)
    assert (norms.asks, near.asks) == ("nothing", "seed")
    assert int(near.run(seen, Query(seed=tr.at(0.5, 0.5))).values.argmax()) >= 0
    (registered,) = parse_methods(f"{own}:registered")
    torch.testing.assert_close(registered.run(seen, Query()).values, seen.features(None).norm(dim=-1))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{own}:norm", NotFoundError, "no function 'norm'; nearest: 'norms'"),
        ("{own}:broken", InputError, "expected a function of an observation"),
        ("{own}:norms:colour=red", NotFoundError, "no option 'colour'; it has layer, power"),
        ("no_such_module_at_all:norms", NotFoundError, "no module 'no_such_module_at_all'"),
    ],
)
def test_functions_of_ones_own_that_cannot_be_used(own: str, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_methods(text.format(own=own))
