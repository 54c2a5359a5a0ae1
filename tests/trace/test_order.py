"""Order of tokens is evidence: models with an order of their own, against which query moves with which patch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

import tokenrank as tr
from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.trace import Trace

P = 8


def large(model: nn.Module) -> Any:
    """Initial weights are small: make changes show."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def captured(model: nn.Module, layers: Any = None, **inputs: Any) -> Trace:
    torch.manual_seed(2)  # for models that draw an order
    with torch.no_grad(), tr.capture(model, layers=layers) as trace:
        model(**inputs)
    return trace


def moved_by(model: nn.Module, name: str, inputs: dict[str, Any], grid: tuple[int, int]) -> list[list[int]]:
    """For each patch of the picture ``name``, row by row, the rows of the first attention's queries that change."""
    before = captured(model, 0, **inputs).records[0].q
    assert before is not None
    moved = []
    for cell in range(math.prod(grid)):
        row, column = divmod(cell, grid[1])
        pixels = inputs[name].clone()
        pixels[..., row * P : (row + 1) * P, column * P : (column + 1) * P] += torch.randn(P, P)
        after = captured(model, 0, **{**inputs, name: pixels}).records[0].q
        assert after is not None
        moved.append((after - before).abs().amax((1, 3)).flatten().nonzero().flatten().tolist())
    return moved


def lw_detr(windows: int, **more: Any) -> Any:
    config = tf.LwDetrViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=64, pretrain_image_size=64, patch_size=P,
        num_windows=windows, out_indices=[1], **{"window_block_indices": [1], **more},
    )  # fmt: skip
    return large(tf.LwDetrViTBackbone(config))


SIZES = [(4, (64, 64)), (4, (64, 96)), (16, (64, 64)), (16, (96, 64))]


@pytest.mark.parametrize(("windows", "size"), SIZES, ids=str)
def test_global_layers_of_lw_detr_keep_the_order_of_their_windows(windows: int, size: tuple[int, int]) -> None:
    model, grid = lw_detr(windows), (size[0] // P, size[1] // P)
    inputs = {"pixel_values": torch.randn(1, 3, *size)}
    layout = captured(model, 0, **inputs)[0].layout
    assert layout is not None
    assert layout.grids == {"image": grid}
    assert layout.order is not None
    assert [[i] for i in layout.indices("image")] == moved_by(model, "pixel_values", inputs, grid)
    (column, row) = (grid[1] - 1, 1)
    point = tr.at((column + 0.5) / grid[1], (row + 0.5) / grid[0])
    assert layout.token_at(point) == layout.indices("image")[row * grid[1] + column]


@pytest.mark.parametrize(("windows", "size"), SIZES, ids=str)
def test_windows_of_lw_detr(windows: int, size: tuple[int, int]) -> None:
    model, grid = lw_detr(windows, window_block_indices=[0, 1]), (size[0] // P, size[1] // P)
    inputs = {"pixel_values": torch.randn(1, 3, *size)}
    trace = captured(model, **inputs)
    record = trace.records[0]
    assert record.windows is not None
    assert record.windows.index.shape == (windows, math.prod(grid) // windows)
    places = record.windows.index.flatten().argsort()  # of each patch among the rows of all windows
    assert [[i] for i in places.tolist()] == moved_by(model, "pixel_values", inputs, grid)
    chain = trace[0]
    assert chain.layout == TokenLayout({"image": math.prod(grid)}, {"image": grid})
    assert chain.shape[-1] == math.prod(grid)
    own = record.to_dense(torch.float64)
    dense = chain.operator.to_dense(torch.float64)[0]
    for window in (0, windows - 1):
        index = record.windows.index[window]
        torch.testing.assert_close(dense[:, index][:, :, index], own[window], rtol=0, atol=1e-6)


def test_an_observation_reads_patches_row_by_row_whatever_their_order() -> None:
    model = lw_detr(4)
    inputs = {"pixel_values": torch.randn(1, 3, 64, 96)}
    trace = captured(model, 0, **inputs)
    record, layout = trace.records[0], trace[0].layout
    assert layout is not None
    order = layout.indices("image")
    observation = tr.observe(trace)
    rows = record.to_dense(torch.float64)[0].mean(0)[order][:, order]
    chain = observation.chain(0, heads="uniform")
    torch.testing.assert_close(chain.operator.to_dense(torch.float64), rows, rtol=0, atol=1e-6)
    assert chain.layout == TokenLayout({"image": 96}, {"image": (8, 12)})
    start = tr.at(0.9, 0.1)
    expected = rows[chain.layout.token_at(start)]
    torch.testing.assert_close(chain.bounce(start).values.double(), expected, rtol=0, atol=1e-6)
    # the chain itself is in the model's order; its maps are not
    whole = trace[0].aggregate("uniform")[0].bounce(start)
    torch.testing.assert_close(whole.grid().flatten().double(), expected, rtol=0, atol=1e-6)
    assert record.q is not None
    assert torch.equal(observation.features(0, "q"), record.q[0][:, order].transpose(0, 1).flatten(1))


def rf_detr(windows: int = 2) -> Any:
    config = tf.RfDetrDinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=64, patch_size=P, num_windows=windows,
        window_block_indexes=[1], out_indices=[1], num_register_tokens=0,
    )  # fmt: skip
    return large(tf.RfDetrDinov2Backbone(config))


@pytest.mark.skipif(not hasattr(tf, "RfDetrDinov2Config"), reason="not in this version of transformers")
def test_rf_detr_has_a_cls_token_before_every_window() -> None:
    model = rf_detr()
    inputs = {"pixel_values": torch.randn(1, 3, 64, 64)}
    trace = captured(model, **inputs)
    layout = trace[0].layout
    assert layout is not None
    assert dict(layout.spans) == {"other": 4, "image": 64}
    assert layout.indices("other") == [0, 17, 34, 51]
    assert [[i] for i in layout.indices("image")] == moved_by(model, "pixel_values", inputs, (8, 8))
    windows = trace[1]
    assert windows.layout == TokenLayout({"image": 64, "other": 4}, {"image": (8, 8)})


def vilt() -> Any:
    config = tf.ViltConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=60, image_size=32,
        patch_size=P, max_image_length=-1,
    )  # fmt: skip
    return large(tf.ViltModel(config))


def test_vilt_draws_an_order_which_is_read() -> None:
    model = vilt()
    ids = torch.arange(5, 12)[None]
    inputs = {"input_ids": ids, "pixel_values": torch.randn(1, 3, 32, 48)}
    layout = captured(model, 0, **inputs)[0].layout
    assert layout is not None
    assert dict(layout.spans) == {"other": 8, "image": 24}  # seven words and CLS
    assert layout.grids == {"image": (4, 6)}
    assert layout.indices("image") != list(range(8, 32))
    assert [[i] for i in layout.indices("image")] == moved_by(model, "pixel_values", inputs, (4, 6))
    two = {"input_ids": ids.expand(2, -1), "pixel_values": torch.randn(2, 3, 32, 48)}
    with pytest.raises(LayoutError, match=r"patches in different orders; capture one sample at a time"):
        captured(model, 0, **two)[0]


class Attending(nn.Module):
    """Patches, then what a subclass does with them, then two layers of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, P, P)
        self.layers = nn.ModuleList([nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2)])

    def cut(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).mT

    def attend(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x, x, x)[0]
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.cut(x))


class Tracker(Attending):
    """OSTrack and its like: a template and a search region in one sequence, the latter without what was eliminated."""

    def forward(self, template: Tensor, search: Tensor, keep: Tensor | None = None) -> Tensor:  # type: ignore[override]
        tokens = self.cut(search)
        if keep is not None:
            tokens = tokens[:, keep]
        return self.attend(torch.cat([self.cut(template), tokens], 1))


def test_a_template_and_a_search_region_in_one_sequence() -> None:
    model = large(Tracker())
    inputs = {"template": torch.randn(1, 3, 16, 16), "search": torch.randn(1, 3, 32, 40)}
    for place in (0, 1):
        assert captured(model, **inputs)[place].layout == TokenLayout(
            {"image": 4, "image_2": 20}, {"image": (2, 2), "image_2": (4, 5)}
        )
    with pytest.raises(LayoutError, match=r"17 tokens .* 13 of them were made of 13 of the 20 patches .* 4 × 5"):
        captured(model, **inputs, keep=torch.arange(13))[0]
    order = torch.randperm(20)
    shuffled = captured(model, **inputs, keep=order)[0].layout
    assert shuffled is not None
    assert shuffled.indices("image") == [0, 1, 2, 3]
    assert [int(order[i - 4]) for i in shuffled.indices("image_2")] == list(range(20))


class Frames(Attending):
    """Several frames in one sequence, with a token between them, or those of a place side by side."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved, self.between = interleaved, nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        frames = self.cut(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.interleaved:
            return self.attend(frames.transpose(1, 2).flatten(1, 2))
        between = self.between.expand(len(x), -1, -1)
        return self.attend(torch.cat([t for frame in frames.unbind(1) for t in (frame, between)], 1))


def test_frames_in_one_sequence() -> None:
    video = torch.randn(2, 3, 3, 16, 24)
    apart = captured(large(Frames(False)), x=video)[0].layout
    assert apart is not None
    assert list(apart.spans.items()) == [
        ("image", 6), ("other", 1), ("image_2", 6), ("other_2", 1), ("image_3", 6), ("other_3", 1),
    ]  # fmt: skip
    assert set(apart.grids.values()) == {(2, 3)}
    mixed = captured(large(Frames(True)), x=video)[0].layout
    assert mixed is not None
    assert [mixed.indices(n) for n in ("image", "image_2", "image_3")] == [list(range(k, 18, 3)) for k in range(3)]


class Shuffled(Attending):
    """Another order in every layer."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x)
        for layer in self.layers:
            tokens = tokens.flip(1).roll(1, 1)
            tokens = tokens + layer(tokens, tokens, tokens)[0]
        return tokens


def test_layers_may_differ() -> None:
    trace = captured(large(Shuffled()), x=torch.randn(2, 3, 16, 24))
    tokens = torch.arange(6)
    for place in (0, 1):
        tokens = tokens.flip(0).roll(1)
        layout = trace[place].layout
        assert layout is not None
        assert [int(tokens[i]) for i in layout.indices("image")] == list(range(6))


class Boxes(Attending):
    """Patches and queries for 36 boxes beside them, which are no text and no prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.Parameter(torch.randn(1, 36, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(torch.cat([self.cut(x), self.boxes.expand(len(x), -1, -1)], 1))


def test_what_is_no_patch_is_called_other() -> None:
    assert captured(large(Boxes()), x=torch.randn(1, 3, 16, 24))[0].layout == TokenLayout(
        {"image": 6, "other": 36}, {"image": (2, 3)}
    )


class Queries(Attending):
    """As many learned queries as there are patches, which only look at them."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 6, 16))

    def forward(self, x: Tensor) -> Tensor:
        patches, queries = self.cut(x), self.queries.expand(len(x), -1, -1)
        queries = queries + self.layers[0](queries, patches, patches)[0]
        return queries + self.layers[1](queries, queries, queries)[0]


def test_queries_as_many_as_patches_are_no_picture() -> None:
    trace = captured(large(Queries()), x=torch.randn(1, 3, 16, 24))
    assert [record.layout for record in trace.records[1:]] == [None]


class Mixed(Attending):
    """Tokens that are mixed across patches before attention."""

    def __init__(self) -> None:
        super().__init__()
        self.across = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.across(self.cut(x).mT).mT)


def test_mixed_patches_are_not_guessed() -> None:
    with pytest.raises(LayoutError, match=r"could not be followed \(several patches became one\).*tr\.check_layout"):
        captured(large(Mixed()), x=torch.randn(1, 3, 16, 24))[0]


def test_an_order_is_kept_in_files(tmp_path: Any) -> None:
    trace = captured(lw_detr(4), **{"pixel_values": torch.randn(1, 3, 64, 96)})
    trace.save(tmp_path / "trace")
    again = tr.load_trace(tmp_path / "trace")
    assert again[0].layout == trace[0].layout
    assert again[0].layout.order is not None  # type: ignore[union-attr]
