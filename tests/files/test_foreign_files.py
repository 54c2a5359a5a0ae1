"""Arrays that other programs saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tokenrank.errors import InputError
from tokenrank.trace import load_trace

Q, K = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
WEIGHTS = torch.randn(2, 5, 5).softmax(-1)


def write(path, kind, **arrays):
    if kind == "safetensors":
        save_file({name: torch.as_tensor(array).clone() for name, array in arrays.items()}, path)
    else:
        with path.open("wb") as file:
            (np.savez if kind == "npz" else np.savez_compressed)(file, **{n: np.asarray(a) for n, a in arrays.items()})
    return path


@pytest.mark.parametrize("kind", ["npz", "compressed npz", "safetensors"])
@pytest.mark.parametrize("separator", [".", "/", "_"])
def test_names_tell_queries_keys_and_weights(kind, separator, tmp_path):
    s = separator
    arrays = {
        f"a.0{s}q": Q, f"a.0{s}k": K, f"a.0{s}v": K, f"a.0{s}scale": torch.tensor(0.3),
        f"a.0{s}mask": torch.ones(5, 5, dtype=torch.bool).tril(), f"a.0{s}is_causal": torch.tensor(False),
        f"a.1{s}weights": WEIGHTS, f"a.2{s}attn": WEIGHTS,
        "a.10": WEIGHTS, "q": Q, "k": K,
    }  # fmt: skip
    trace = load_trace(write(tmp_path / "file", kind, **arrays))
    assert set(trace.names) == {"", "a.0", "a.1", "a.2", "a.10"}
    if kind == "safetensors":
        assert trace.names == ["a.0", "a.1", "a.2", "a.10", ""]
    assert trace["a.0"].is_causal
    assert torch.equal(trace["a.1"].to_dense(), trace["a.10"].to_dense())
    logits = (0.3 * (Q @ K.mT)).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    torch.testing.assert_close(trace["a.0"].to_dense(), logits.softmax(-1))
    torch.testing.assert_close(trace[""].to_dense(), (0.5 * (Q @ K.mT)).softmax(-1))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no arrays|no safetensors"),
        ({"a.q": Q}, "'a.k' too"),
        ({"a.scale": torch.tensor(1.0)}, "'a.q', 'a.k' too"),
        ({"a.v": Q}, "no arrays"),
        ({"a.q": Q, "a.k": K, "a.weights": WEIGHTS}, "expected weights alone"),
        ({"a.q": Q, "a_q": Q, "a.k": K}, "a second time"),
        ({"a": torch.randn(3, 3)}, "logits"),
        ({"a": torch.ones(3)}, "shape"),
        ({"a.q": Q, "a.k": K[..., :2]}, "same d"),
        ({"a.q": Q, "a.k": K, "a.scale": torch.ones(2)}, "one number"),
        ({"a.q": Q, "a.k": K, "a.is_causal": torch.tensor(1.0)}, "expected one bool"),
        ({"a.q": Q, "a.k": K, "a.mask": torch.ones(5, 5, dtype=torch.int32)}, "zeros and ones"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_path(kind, arrays, message, tmp_path):
    path = write(tmp_path / "file", kind, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_trace(path)
    assert str(path) in str(caught.value)


def test_other_byte_orders_and_memory_orders(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.asfortranarray(WEIGHTS.numpy()), b=WEIGHTS.numpy().astype(">f4"))
    trace = load_trace(path)
    assert torch.equal(trace["a"].to_dense(), trace["b"].to_dense())
