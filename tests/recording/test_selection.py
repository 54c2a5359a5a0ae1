"""Which calls are kept: names, globs, places, predicates, steps, heads; before anything is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tokenrank.errors import CaptureError, InputError
from tokenrank.recording import Recorder, matches_name

from .reference import weights_of

DEPTH, HEADS = 5, 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Model(nn.Module):
    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))

    def forward(self, x: Tensor, depth: int = DEPTH) -> Tensor:
        for block in self.blocks[:depth]:
            x = block(x)
        return x


def run(calls: int = 1, **options: Any) -> Recorder:
    model = Model()
    with torch.no_grad(), Recorder(model, **options) as recorder:
        for _ in range(calls):
            model(torch.randn(2, 6, 16))
    recorder.check()
    return recorder


def places(recorder: Recorder) -> list[int]:
    return [r.index for r in recorder.records]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("blocks.2.attention", [2]),
        ("blocks.2", [2]),
        ("blocks", [0, 1, 2, 3, 4]),
        ("blocks.[13]", [1, 3]),
        ("*.attention", [0, 1, 2, 3, 4]),
        (["blocks.4", "blocks.0"], [0, 4]),
        (3, [3]),
        (np.int64(3), [3]),
        (-1, [4]),
        (-5, [0]),
        ([0, -2], [0, 3]),
        ([4, -1], [4]),
        (["blocks.1", -2, 0], [0, 1, 3]),
        (range(1, 4), [1, 2, 3]),
        (lambda name: name.startswith("blocks.3"), [3]),
    ],
)
def test_layers(layers: Any, expected: list[int]) -> None:
    assert places(run(layers=layers)) == expected


def test_names_stop_at_module_boundaries() -> None:
    assert matches_name("layer.1", "layer.1.attention")
    assert not matches_name("layer.1", "layer.10.attention")
    assert not matches_name("layer", "layers.1")


def test_negative_places_count_from_the_end_of_every_forward() -> None:
    model = Model()
    with torch.no_grad(), Recorder(model, layers=[-1, -2]) as recorder:
        for depth in (2, 5, 3):
            model(torch.randn(2, 6, 16), depth=depth)
    recorder.check()
    assert [(r.step, r.index) for r in recorder.records] == [(0, 0), (0, 1), (1, 3), (1, 4), (2, 1), (2, 2)]


def test_negative_places_hold_no_more_than_they_may_need() -> None:
    model, most = Model(), 0
    recorder = Recorder(model, layers=-2)

    def count(*_: Any) -> None:
        nonlocal most
        most = max(most, len(recorder._journal._undecided))

    for block in model.blocks:
        block.register_forward_hook(count)
    with torch.no_grad(), recorder:
        model(torch.randn(2, 6, 16))
    assert most == 2
    assert places(recorder) == [3]


def test_what_is_not_wanted_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = 0
    clone = Tensor.clone

    def counting(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal copies
        copies += 1
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "clone", counting)
    run(layers=2)
    assert copies == 2  # q and k of one layer


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(0, [0]), (2, [2]), ([1, 3], [1, 3]), (range(2, 9), [2, 3]), (lambda step: step % 2 == 0, [0, 2])],
)
def test_steps(steps: Any, expected: list[int]) -> None:
    recorder = run(calls=4, steps=steps, layers=0)
    assert [r.step for r in recorder.records] == expected
    assert sorted(recorder.evidence) == expected


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, [1]),
        (-1, [3]),
        ([3, 0], [3, 0]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_heads(heads: Any, expected: list[int]) -> None:
    model, x = Model(1), torch.randn(2, 6, 16)
    with torch.no_grad(), Recorder(model) as everything:
        model(x)
    with torch.no_grad(), Recorder(model, heads=heads) as some:
        model(x)
    some.check()
    assert some.records[0].shape == (2, len(expected), 6, 6)
    assert torch.equal(weights_of(some.records[0]), weights_of(everything.records[0])[:, expected])


class Grouped(nn.Module):
    """Six query heads, three key heads, a bias a head."""

    def forward(self, q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, k, bias, enable_gqa=True)


@pytest.mark.parametrize("heads", [[0], [1, 2], [5, 0, 3], slice(2, None)])
def test_heads_take_their_key_head_and_their_mask_along(heads: Any) -> None:
    q, k, bias = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 5, 4), torch.randn(6, 5, 5)
    model = Grouped()
    with Recorder(model) as everything:
        model(q, k, bias)
    with Recorder(model, heads=heads) as some:
        model(q, k, bias)
    some.check()
    assert torch.equal(weights_of(some.records[0]), weights_of(everything.records[0])[:, heads])


@pytest.mark.parametrize("heads", [4, -5, [0, 7], slice(9, None)])
def test_heads_that_a_layer_has_not(heads: Any) -> None:
    with pytest.raises(CaptureError, match=r"head.* with 4 heads"):
        run(heads=heads)


def test_heads_of_weights_alone() -> None:
    class Capped(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return torch.tanh(q @ q.mT).softmax(-1) @ q

    q = torch.randn(2, 3, 5, 4)
    model = Capped()
    with Recorder(model, heads=-1) as recorder:
        model(q)
    recorder.check()
    assert recorder.records[0].kind == "weights"
    torch.testing.assert_close(recorder.records[0].weights, torch.tanh(q @ q.mT).softmax(-1)[:, 2:])


def test_storage_dtype() -> None:
    recorder = run(dtype=torch.float16)
    record = recorder.records[0]
    assert record.q is not None
    assert record.k is not None
    assert {record.q.dtype, record.k.dtype} == {torch.float16}


def test_storage_device() -> None:
    recorder = run(device="meta")
    assert all(r.q is not None and r.q.device.type == "meta" for r in recorder.records)


def test_copies_hold_no_more_memory_than_they_show() -> None:
    for r in run().records:
        assert r.q is not None
        assert r.k is not None
        assert r.q.untyped_storage().nbytes() == r.q.nbytes  # not a view of the fused projection
        assert r.nbytes == r.q.nbytes + r.k.nbytes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": []}, "layers is empty"),
        ({"layers": 1.5}, "layers holds 1.5"),
        ({"layers": [True]}, "layers holds True"),
        ({"layers": ["a", None]}, "layers holds None"),
        ({"heads": []}, "heads is empty"),
        ({"heads": "first"}, "heads holds 'first'"),
        ({"heads": [1.0]}, "heads holds 1.0"),
        ({"steps": -1}, "steps holds -1"),
        ({"steps": []}, "steps is empty"),
        ({"steps": "all"}, "steps holds 'all'"),
        ({"dtype": torch.int8}, "dtype = torch.int8"),
        ({"dtype": "half"}, "dtype = 'half'"),
    ],
)
def test_filters_that_cannot_be_used(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Recorder(Model(), **options)
