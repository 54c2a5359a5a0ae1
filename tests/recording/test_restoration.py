"""Nothing stays behind: modes, stance, hooks, memory; whatever happens in the block."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenrank.errors import CaptureError
from tokenrank.recording import Recorder

from .reference import weights_of


class Model(nn.Module):
    """One fused attention, one by hand, one nn.MultiheadAttention."""

    def __init__(self) -> None:
        super().__init__()
        self.multi = nn.MultiheadAttention(16, 2, batch_first=True)
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (2, 8)).transpose(1, 2)
        heads = F.scaled_dot_product_attention(heads, heads, heads)
        heads = (heads @ heads.mT / 3).softmax(-1) @ heads
        if self.fail:
            raise ZeroDivisionError("in the model")
        return self.multi(*[heads.transpose(1, 2).flatten(2)] * 3)[0]


KINDS = ["sdpa", "eager", "multi_head_attention"]


def state(model: nn.Module) -> tuple[Any, ...]:
    from torch._dynamo import eval_frame

    hooks = [
        (len(m._forward_pre_hooks), len(m._forward_hooks), len(m._backward_hooks), sorted(vars(m)))
        for m in model.modules()
    ]
    functions = (
        F.scaled_dot_product_attention, F.softmax, F.multi_head_attention_forward, torch.matmul, Tensor.__matmul__,
        Tensor.softmax, nn.Module.__call__, torch.einsum, torch.bmm, F.conv2d,
    )  # fmt: skip
    grad = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return hooks, [id(f) for f in functions], torch._C._len_torch_function_stack(), eval_frame._stance.stance, grad


def test_state_is_restored_on_every_way_out() -> None:
    model, x = Model(), torch.randn(1, 4, 16)
    before = state(model)
    assert before[2:4] == (0, "default")

    with Recorder(model) as recorder:
        model(x)
        assert state(model) != before
    assert state(model) == before

    model.fail = True
    with pytest.raises(ZeroDivisionError), Recorder(model) as recorder:
        model(x)
    assert state(model) == before
    assert [r.kind for r in recorder.records] == KINDS[:2]  # what was seen until then is kept

    model.fail = False
    with pytest.raises(KeyboardInterrupt), Recorder(model):
        raise KeyboardInterrupt
    assert state(model) == before

    def generator() -> Any:
        with Recorder(model):
            yield model(x)

    running = generator()
    next(running)
    running.close()
    assert state(model) == before


def test_state_is_restored_when_entering_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    before = state(model)
    recorder = Recorder(model)
    monkeypatch.setattr("tokenrank.recording.recorder.Observers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), recorder:
        pass
    assert state(model) == before


def test_stance_of_others_is_restored() -> None:
    model = Model()
    with torch.compiler.set_stance("eager_on_recompile"):
        before = state(model)
        with Recorder(model):
            model(torch.randn(1, 4, 16))
        assert state(model) == before


def test_nested_captures_see_the_same() -> None:
    model, x = Model(), torch.randn(2, 4, 16)
    with torch.no_grad():
        expected = model(x)
        with Recorder(model) as outer, Recorder(model) as inner, Recorder(model.multi) as part:
            out = model(x)
    assert torch.equal(out, expected)
    for recorder in (outer, inner, part):
        recorder.check()
    assert [r.kind for r in outer.records] == [r.kind for r in inner.records] == KINDS
    assert [r.kind for r in part.records] == KINDS[2:]
    for a, b in zip(outer.records, inner.records, strict=True):
        assert (a.name, a.shape, a.scale) == (b.name, b.shape, b.scale)
        assert torch.equal(weights_of(a), weights_of(b))
    assert torch.equal(weights_of(part.records[0]), weights_of(inner.records[2]))


def test_other_modes_go_on_working() -> None:
    class Doubling(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **kwargs or {})
            return 2 * out if func is F.scaled_dot_product_attention else out

    model, x = Model(), torch.randn(2, 4, 16)
    with Doubling():
        expected = model(x)
        with Recorder(model) as recorder:
            inside = model(x)
    with Recorder(model), Doubling():
        outside = model(x)
    recorder.check()
    assert torch.equal(expected, inside)
    assert torch.equal(expected, outside)


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), "in place"])
def test_compiled_model_runs_uncompiled_and_is_not_compiled_again(wrap: Callable[[nn.Module], Any] | str) -> None:
    torch.compiler.reset()
    compiled_graphs = 0

    def backend(graph: Any, _: Any) -> Any:
        nonlocal compiled_graphs
        compiled_graphs += 1
        return graph.forward

    model, x = Model(), torch.randn(2, 4, 16)
    with torch.no_grad():
        plain = model(x)
        called: Any = model
        if callable(wrap):
            called = torch.compile(model, backend=backend)
        else:
            model.compile(backend=backend)
        expected = called(x)
        count = compiled_graphs
        assert count > 0
        for root in (called, model):
            with Recorder(root) as recorder:
                out = called(x)
            recorder.check()
            assert torch.equal(out, plain)
            assert [r.kind for r in recorder.records] == KINDS
            assert [r.name for r in recorder.records] == ["", "", "multi"]
            assert [r.step for r in recorder.records] == [0, 0, 0]
        assert compiled_graphs == count
        assert torch.equal(called(x), expected)
        assert compiled_graphs == count
    torch.compiler.reset()


def test_model_called_twice_counts_steps() -> None:
    model = Model()
    with Recorder(model) as recorder:
        model(torch.randn(1, 4, 16))
        model(torch.randn(1, 5, 16))
    recorder.check()
    assert [(r.step, r.index, r.shape[-1]) for r in recorder.records] == [
        (step, index, n) for step, n in ((0, 4), (1, 5)) for index in range(3)
    ]
    assert recorder.evidence[1].inputs == {"x": torch.Size((1, 5, 16))}


def test_attention_of_others_is_left_out() -> None:
    model, other = Model(), Model()
    x = torch.randn(1, 4, 16)
    with Recorder(model) as recorder:
        other(x)
        model(x)
        F.scaled_dot_product_attention(*[torch.randn(1, 2, 3, 4)] * 3)
    recorder.check()
    assert [r.kind for r in recorder.records] == KINDS
    assert [r.index for r in recorder.records] == [0, 1, 2]


@pytest.mark.parametrize("grad", [True, False])
def test_memory_does_not_grow(grad: bool) -> None:
    model, x = Model(), torch.randn(2, 4, 16)

    def tensors() -> int:
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    def captured() -> None:
        with torch.set_grad_enabled(grad), Recorder(model) as recorder:
            model(x)
        recorder.check()
        assert len(recorder.records) == 3

    for _ in range(3):
        captured()
    gc.collect()
    before = tensors(), len(gc.get_objects())
    gc.disable()  # records must not wait for the collector
    try:
        for _ in range(1000):
            captured()
        after = tensors()
    finally:
        gc.enable()
    assert after == before[0]
    gc.collect()
    assert len(gc.get_objects()) - before[1] < 200  # less than one object in five captures


def test_tensors_die_as_early_as_without_capture() -> None:
    # a long forward must not pile up the q, k and weights of its layers
    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alive: list[int] = []

        def layer(self, x: Tensor) -> Tensor:
            q, k, v = (x + i for i in range(3))
            return (q @ k.mT).softmax(-1) @ v

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(6):
                x = self.layer(x)
                self.alive.append(sum(issubclass(type(o), Tensor) for o in gc.get_objects()))
            return x

    model, x = Layers(), torch.randn(2, 3, 5, 4)
    gc.collect()
    gc.disable()
    try:
        with torch.no_grad():
            model(x)
            plain = [n - model.alive[0] for n in model.alive]
            model.alive.clear()
            with Recorder(model, layers="none"):
                model(x)
            captured = [n - model.alive[0] for n in model.alive]
    finally:
        gc.enable()
    assert captured == plain


def test_fault_in_a_filter_does_not_reach_the_model() -> None:
    model, x = Model(), torch.randn(1, 4, 16)
    with torch.no_grad():
        expected = model(x)
        with Recorder(model, layers=lambda name: name[99] == "x") as recorder:
            out = model(x)
    assert torch.equal(out, expected)
    with pytest.raises(CaptureError, match=r"IndexError.*not affected") as caught:
        recorder.check()
    assert isinstance(caught.value.__cause__, IndexError)


@pytest.mark.parametrize("part", ["mode.ModuleNames.running", "keep.Keeper.kept", "lineage.follow.Tags.put"])
def test_fault_of_capture_does_not_reach_the_model(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("broken on purpose")

    model, x = Model(), torch.randn(1, 4, 16)
    with torch.no_grad():
        expected = model(x)
        monkeypatch.setattr(f"tokenrank.recording.{part}", broken)
        with Recorder(model) as recorder:
            out = model(x)
    assert torch.equal(out, expected)
    with pytest.raises(CaptureError, match=r"RuntimeError: broken on purpose.*report"):
        recorder.check()


def test_random_numbers_are_the_same() -> None:
    model = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.5, batch_first=True).train()
    x = torch.randn(2, 4, 16)
    torch.manual_seed(3)
    expected = model(x)
    torch.manual_seed(3)
    with Recorder(model) as recorder:
        out = model(x)
    recorder.check()
    assert torch.equal(out, expected)
    assert torch.equal(torch.rand(1), (torch.manual_seed(3), model(x), torch.rand(1))[-1])
