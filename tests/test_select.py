"""One grammar for layers, heads and tokens, and one error for each mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import tokenrank as tr
from tokenrank.errors import ChainError, InputError, LayoutError, NotFoundError
from tokenrank.select import default_layer, head_weights, layer_of, layers_of, mixed, tokens_of

NAMES = ("encoder.layer.0.attention", "encoder.layer.1.attention", "decoder.layer.0.attention")


@pytest.mark.parametrize(("count", "place"), [(1, 0), (2, 1), (3, 2), (4, 3), (6, 4), (12, 9), (24, 18)])
def test_default_layer(count: int, place: int) -> None:
    assert default_layer(count) == place
    names = [str(i) for i in range(count)]
    assert layer_of(None, names) == str(place)
    assert layer_of(None, names, "text") == names[-1]
    assert layers_of([None], names) == (str(place),)  # type: ignore[list-item]
    assert layers_of(None, names, "text") == (names[-1],)


@pytest.mark.parametrize(
    ("layer", "place"),
    [
        (1, 1),
        (-1, 2),
        (np.int64(-3), 0),
        (NAMES[2], 2),
        ("encoder.layer.1", 1),
        ("decoder", 2),
        ("dec*", 2),
        ("*.1.*", 1),
    ],
)
def test_a_layer_by_number_name_module_or_glob(layer: Any, place: int) -> None:
    assert layer_of(layer, NAMES) == NAMES[place]
    assert layers_of([layer], NAMES) == layers_of(layer, NAMES) == (NAMES[place],)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (3, "there are 3, expected a number from -3 to 2"),
        (-4, "no layer -4"),
        ("encoder", "fits 2 layers: 'encoder.layer.0.attention', 'encoder.layer.1.attention'"),
        ("encoder.layer.2.atention", "nearest: 'encoder.layer"),
    ],
)
def test_a_layer_that_is_none_or_several(layer: Any, words: str) -> None:
    with pytest.raises(NotFoundError, match=words.replace(".", r"\.")):
        layer_of(layer, NAMES)


@pytest.mark.parametrize("layer", [True, 1.0, b"encoder", object()])
def test_what_is_no_layer(layer: Any) -> None:
    with pytest.raises(InputError, match="a layer's number"):
        layer_of(layer, NAMES)


def test_several_layers_keep_their_order_and_come_once() -> None:
    assert layers_of("encoder", NAMES) == NAMES[:2]
    assert layers_of([-1, "encoder.*", 2], NAMES) == (NAMES[2], *NAMES[:2])
    assert layers_of(None, NAMES) == (NAMES[2],)
    with pytest.raises(InputError, match="no layers given"):
        layers_of([], NAMES)


def test_weights_of_heads() -> None:
    moduli = torch.tensor([0.1, 0.3, 0.6])
    assert head_weights("lambda2", moduli, 3, "x").tolist() == pytest.approx([0.1, 0.3, 0.6])
    assert head_weights("lambda2", torch.zeros(3), 3, "x").tolist() == pytest.approx([1 / 3] * 3)
    assert head_weights("uniform", None, 4, "x").tolist() == [0.25] * 4
    assert head_weights(-1, None, 3, "x").tolist() == [0, 0, 1]
    assert head_weights([0, 2], None, 3, "x").tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("heads", [True, "lambda3", [], 1.5, [0, True], ["lambda2"], None])
def test_what_is_no_choice_of_heads(heads: Any) -> None:
    chain = tr.AttentionChain(torch.full((3, 2, 2), 0.5))
    for ask in (lambda: head_weights(heads, None, 3, "x"), lambda: mixed(chain, heads)):
        with pytest.raises(InputError, match="expected 'lambda2', 'uniform', the number of a head"):
            ask()


def test_heads_out_of_range_or_twice() -> None:
    for heads in (3, -4, [0, 3]):
        with pytest.raises(NotFoundError, match="in layer 'x': it has 3, expected a number from -3 to 2"):
            head_weights(heads, None, 3, "x")
    with pytest.raises(InputError, match="twice"):
        head_weights([0, -3], None, 3, "x")


def test_mixtures_are_those_of_the_weights() -> None:
    weights = torch.rand(4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chain = tr.AttentionChain(weights / weights.sum(-1, keepdim=True))
    for heads in ("lambda2", "uniform", 2, [1, 3]):
        w = head_weights(heads, chain.lambda2().values, 4, "x")  # type: ignore[arg-type]
        expected = torch.einsum("h,hij->ij", w, chain.to_dense())
        torch.testing.assert_close(mixed(chain, heads).to_dense(), expected)  # type: ignore[arg-type]


def test_tokens() -> None:
    layout = tr.TokenLayout({"cls": 1, "registers": 2, "image": 4}, {"image": (2, 2)}, special=(0,))
    assert tokens_of("all", layout, 7, "x") is None
    assert tokens_of("image", layout, 7, "x") == (3, 4, 5, 6)
    assert tokens_of(["cls", "image"], layout, 7, "x") == (0, 3, 4, 5, 6)
    assert tokens_of("content", layout, 7, "x") == (1, 2, 3, 4, 5, 6)
    assert tokens_of([-1, 0], layout, 7, "x") == (0, 6)
    assert tokens_of(range(7), layout, 7, "x") is None
    with pytest.raises(NotFoundError, match="no tokens 'imge' in layer 'x'; nearest: 'image'"):
        tokens_of("imge", layout, 7, "x")
    with pytest.raises(ChainError, match="token 7 of a chain of 7"):
        tokens_of([7], layout, 7, "x")
    with pytest.raises(LayoutError, match="tokens='all'"):
        tokens_of("image", None, 7, "x")
