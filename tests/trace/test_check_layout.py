"""``check_layout``: what it proves, what it finds wrong, and what it cannot show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tokenrank as tr
from tests.models.windowed import hf_swin, large_enough
from tokenrank.errors import InputError, LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.trace import LayerCheck, check_layout

from .test_order import Attending, Boxes, Mixed, Shuffled, large, lw_detr, vilt


def test_the_layout_of_a_model_is_proved_in_all_its_layers() -> None:
    check = check_layout(lw_detr(4), {"pixel_values": torch.randn(1, 3, 64, 96)})
    assert [layer.verdict for layer in check.layers] == ["proved", "proved"]
    assert check.holds
    assert check.forwards == 2 + 2 * 7  # 96 patches
    assert check.layers[0].seen == check.layers[0].layout
    assert check.layers[1].tokens.shape == (4, 24)
    assert "proved: image 8 × 12, in an order of their own" in str(check)


def test_another_order_in_every_layer_and_in_no_layer() -> None:
    check = check_layout(large(Shuffled()), torch.randn(2, 3, 16, 24))
    assert [layer.verdict for layer in check.layers] == ["proved", "proved"]
    with pytest.raises(LayoutError, match="2 layouts that were seen"):
        _ = check.layout
    check = check_layout(large(Boxes()), torch.randn(1, 3, 16, 24))
    assert check.layout == TokenLayout({"image": 6, "other": 36}, {"image": (2, 3)})


def test_windows_of_both_stages() -> None:
    model = large_enough(hf_swin())
    check = check_layout(model, {"pixel_values": torch.randn(1, 3, 64, 32)})
    assert {layer.verdict for layer in check.layers} == {"proved"}
    assert [layer.layout.grids["image"] for layer in check.layers] == [(32, 16)] * 2 + [(16, 8)] * 2  # type: ignore[union-attr]


class Hidden(Attending):
    """Patches go through a function that nobody can see, which turns their order around."""

    def cut(self, x: Tensor) -> Tensor:
        tokens = super().cut(x)
        return tokens.new_tensor(tokens.flip(1).tolist())


def test_a_layout_for_what_cannot_be_followed() -> None:
    model, x = large(Hidden()), torch.randn(1, 3, 16, 24)
    with torch.no_grad(), tr.capture(model) as trace:
        model(x)
    assert [record.layout for record in trace.records] == [None, None]
    with pytest.raises(LayoutError, match=r"no layer of Hidden knows a grid .*grid=\(rows, columns\)"):
        check_layout(model, x)
    check = check_layout(model, x, grid=(2, 3))
    assert [layer.verdict for layer in check.layers] == ["no layout"] * 2
    assert not check.holds
    layout = check.layout
    assert layout.indices("image") == list(range(6))[::-1]
    trace.layout = layout
    assert trace[0].layout == layout


def test_a_wrong_layout_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    # as if patches were taken to be row by row, whatever was seen
    plain = TokenLayout({"image": 64}, {"image": (8, 8)})
    monkeypatch.setattr("tokenrank.trace.layouts._read", lambda *_: plain)
    check = check_layout(lw_detr(4), {"pixel_values": torch.randn(1, 3, 64, 64)}, layers=0)
    assert [layer.verdict for layer in check.layers] == ["wrong"]
    assert not check.holds
    assert "WRONG: image 8 × 8; seen: image 8 × 8, in an order of their own" in str(check)


def test_mixed_patches_show_nothing() -> None:
    check = check_layout(large(Mixed()), torch.randn(1, 3, 16, 24), grid=(2, 3))
    assert {layer.verdict for layer in check.layers} == {"mixed"}
    assert not check.holds
    assert "not shown: 6 tokens move with several patches" in str(check)


def test_what_is_drawn_is_drawn_alike() -> None:
    ids = torch.arange(5, 12)[None]
    check = check_layout(vilt(), {"input_ids": ids, "pixel_values": torch.randn(1, 3, 32, 48)})
    assert {layer.verdict for layer in check.layers} == {"proved"}


def test_what_it_is_given() -> None:
    model = large(Attending())
    with pytest.raises(InputError, match=r"\{'x': \(3, 16, 24\)\}, 0 of them a picture, expected one of"):
        check_layout(model, {"x": torch.randn(3, 16, 24)})
    with pytest.raises(InputError, match=r"a grid of 3 × 3 does not divide 16 × 24"):
        check_layout(model, {"x": torch.randn(1, 3, 16, 24)}, grid=(3, 3))
    with pytest.raises(InputError, match="0 of them a picture named 'y'"):
        check_layout(model, {"x": torch.randn(1, 3, 16, 24)}, picture="y")


def test_a_random_state_is_left_alone() -> None:
    model, x = large(Attending()), torch.randn(1, 3, 16, 24)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_layout(model, x)
    assert torch.equal(torch.rand(3), expected)


def test_the_model_is_left_alone() -> None:
    model: Any = large(Attending())
    before = {name: p.clone() for name, p in model.named_parameters()}
    check_layout(model, torch.randn(1, 3, 16, 24))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in nn.Module.modules(model))


class ByHand(nn.Module):
    """Attention by hand whose logits go where nobody sees them, or whose tokens meet elsewhere."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.cut = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.ModuleList(nn.Linear(16, 48) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cut(x).flatten(2).mT
        for number, block in enumerate(self.blocks):
            q, k, v = block(x).chunk(3, -1)
            logits = q @ k.mT / 4
            if self.how == "array":
                logits.detach().numpy()[..., 0] += 2.0
            elif self.how == "data":
                logits.data[..., 0] += 2.0
            elif self.how == "cap":
                logits = 5 * torch.tanh(logits / 5)
            elif self.how == "first cap" and number == 0:
                # every token goes to the first: all that is behind moves with that patch alone
                logits = 5 * torch.tanh(logits / 5) + 1e4 * (torch.arange(logits.shape[-1]) == 0)
            weights = logits.softmax(-1)
            if self.how == "first cap" and number == 0:
                weights = weights.roll(1, -1)
            x = weights @ v if self.how == "first cap" else x + weights @ v
        return x


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", ["array", "data", "cap"])
def test_attention_whose_queries_are_not_known_cannot_be_checked(how: str, seed: int) -> None:
    torch.manual_seed(seed)
    check = check_layout(ByHand(how), torch.randn(1, 3, 32, 48))
    assert {layer.verdict for layer in check.layers} == {"unchecked"}
    assert not check.holds
    assert "blocks" not in str(check)
    assert "the module itself: cannot be checked: its queries are not known" in str(check)


def test_behind_attention_that_was_not_replaced_nothing_is_wrong() -> None:
    torch.manual_seed(0)
    check = check_layout(ByHand("first cap"), torch.randn(1, 3, 32, 48))
    assert [layer.verdict for layer in check.layers] == ["unchecked"] * 3
    assert "the attention of '' could not be replaced" in check.layers[1].reason
    # the same tokens, with every attention replaced: the layouts of all layers hold
    assert check_layout(ByHand("plain"), torch.randn(1, 3, 32, 48)).holds


class Pooled(Attending):
    """All tokens meet a little before the attention, where nobody looks."""

    def cut(self, x: Tensor) -> Tensor:
        tokens = super().cut(x)
        return tokens.new_tensor((tokens.flip(1) + 0.02 * tokens.mean(1, keepdim=True)).tolist())


def test_what_is_not_shown_cleanly_is_not_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TokenLayout({"image": 6}, {"image": (2, 3)})
    monkeypatch.setattr("tokenrank.trace.layouts._read", lambda *_: plain)
    x = torch.randn(1, 3, 16, 24)
    assert {layer.verdict for layer in check_layout(large(Hidden()), x).layers} == {"wrong"}
    check = check_layout(large(Pooled()), x)
    assert {layer.verdict for layer in check.layers} == {"mixed"}
    assert str(check).count("6 tokens move") == 2


def test_one_token_is_not_many() -> None:
    layer = LayerCheck("a", None, "mixed", None, torch.tensor([[0, -2, -1]]))
    assert str(layer) == "a: not shown: 1 token moves with several patches"


def test_another_grid_is_not_a_wrong_layout() -> None:
    model, x = ByHand("plain"), torch.randn(1, 3, 32, 48)
    for grid in [(2, 3), (1, 2), (8, 12), (4, 3)]:
        check = check_layout(model, x, grid=grid)
        assert {layer.verdict for layer in check.layers} == {"other grid"}
        assert f"its layout has 4 × 6 patches, and grid= says {grid[0]} × {grid[1]}; leave grid= out" in str(check)
    assert check_layout(model, x, grid=(4, 6)).holds


def test_a_layout_of_another_grid_than_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = TokenLayout({"image": 6}, {"image": (1, 6)})
    monkeypatch.setattr("tokenrank.trace.layouts._read", lambda *_: wrong)
    check = check_layout(large(Attending()), torch.randn(1, 3, 16, 24), grid=(2, 3))
    assert {layer.verdict for layer in check.layers} == {"wrong"}
    assert check.layout == TokenLayout({"image": 6}, {"image": (2, 3)})


def test_queries_that_do_not_move_show_nothing() -> None:
    model = ByHand("plain")
    for block in model.blocks:
        nn.init.zeros_(block.weight)
    check = check_layout(model, torch.randn(1, 3, 32, 48))
    assert "cannot be checked: none of its tokens moves with the picture" in str(check)
    assert {layer.verdict for layer in check.layers} == {"unchecked"}


def test_numbers_that_are_none() -> None:
    x = torch.randn(1, 3, 32, 48)
    x[0, 0, :2, 0] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(InputError, match=r"the picture 'x': 2 of 4608 values are NaN or infinite"):
        check_layout(ByHand("plain"), {"x": x})
    model = ByHand("plain")
    nn.init.constant_(model.cut.bias, torch.nan)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the weights of '': 576 of 576 values are NaN"):
        check_layout(model, torch.randn(1, 3, 32, 48))


def test_patches_that_were_cut_outside_of_the_model() -> None:
    for picture in (None, "pixel_values"):
        with pytest.raises(InputError, match=r"cut outside of the model .* cannot be checked") as error:
            check_layout(ByHand("plain"), {"pixel_values": torch.randn(24, 192)}, picture=picture)
        assert "name it" not in str(error.value)


def test_a_model_that_fails() -> None:
    match = r"ByHand cannot run on its inputs \(x \(1, 5, 32, 48\) float32\): RuntimeError: .*; give tr\.check_layout"
    with pytest.raises(InputError, match=match):
        check_layout(ByHand("plain"), {"x": torch.randn(1, 5, 32, 48)})
