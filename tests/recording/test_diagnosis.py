"""Why nothing was recorded, said in words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenrank.errors import CaptureError
from tokenrank.recording import Recorder


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


X = torch.randn(1, 2, 5, 4)


def why(model: nn.Module, run: Callable[[], Any], **options: Any) -> str:
    with Recorder(model, **options) as recorder:
        run()
    with pytest.raises(CaptureError) as caught:
        recorder.check()
    return str(caught.value)


def test_model_was_not_called() -> None:
    message = why(Model(), lambda: None)
    assert "of Model: it was not called inside the block" in message
    assert "model(**inputs)" in message


def test_model_without_attention() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1))
    assert "it has no softmax attention that can be seen" in why(model, lambda: model(X[0, 0]))


def test_model_in_another_thread() -> None:
    model = Model()

    def run() -> None:
        thread = threading.Thread(target=model, args=(X,))
        thread.start()
        thread.join()

    assert "another thread" in why(model, run)


def test_torchscript() -> None:
    script = torch.jit.trace(Model(), X, check_trace=False)
    assert "TorchScript" in why(script, lambda: script(X))


def test_attention_of_another_module() -> None:
    model = Model()
    message = why(model.head, lambda: model(X))
    assert "2 attention calls were made by modules outside of it" in message


def test_opaque_kernel() -> None:
    with torch.library._scoped_library("tokenrank_test", "DEF") as library:
        library.define("flash_attn(Tensor q) -> Tensor")
        library.impl("flash_attn", lambda q: q.clone(), "CPU")

        class Opaque(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.ops.tokenrank_test.flash_attn(torch.ops.tokenrank_test.flash_attn(x))

        model = Opaque()
        message = why(model, lambda: model(X))
    assert "tokenrank_test.flash_attn" in message
    assert "× 2" in message
    assert "set_attn_implementation('sdpa')" in message


def test_runtime_without_torch_functions() -> None:
    class Replays(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    model = Replays()
    assert "CUDA graph" in why(model, lambda: model(X))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_functional_transform() -> None:
    model = Model()
    message = why(model, lambda: torch.func.vmap(model)(X))
    assert "torch.func" in message
    assert "'layers.0'" in message


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("layer.0", ["'layer.0'", "nearest: 'layers.0'"]),
        (["layers.0", "blocks.*"], ["'blocks.*'", "1 records"]),
        (2, ["layer 2", "2 attention calls, expected -2 … 1"]),
        (-3, ["layer -3", "2 attention calls"]),
        ([0, 5, 6], ["layer 5", "layer 6"]),
        (lambda name: False, ["accepted none of 2 names", "layers.0"]),
    ],
)
def test_filter_that_meets_nothing(layers: Any, words: list[str]) -> None:
    model = Model()
    message = why(model, lambda: model(X), layers=layers)
    for word in words:
        assert word in message


def test_steps_that_never_come() -> None:
    model = Model()
    message = why(model, lambda: model(X), steps=3)
    assert "steps=" in message
    assert "1 forward calls" in message
