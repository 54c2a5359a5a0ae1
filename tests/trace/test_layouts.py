"""Records know their tokens: layouts, windows, batch size and texts, once the block of a capture is over."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.recording import AttentionRecord, Evidence, Forward
from tokenrank.trace import Trace, capture
from tokenrank.trace.layouts import Resolver
from tokenrank.trace.parts import of_branch, of_sample

from .models import SIZES, llama, peaky

IDS = torch.randint(3, 60, (3, 9))


class Letters:
    """As much of a tokenizer as token strings take."""

    all_special_ids = (0,)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"t{i}" for i in ids]


class Broken(Letters):
    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        raise OverflowError("out of range")


def strings(ids: Tensor) -> tuple[str, ...]:
    return tuple(Letters().convert_ids_to_tokens(ids.tolist()))


def vit(size: int = 32) -> nn.Module:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=size, patch_size=8
    )
    return hf.ViTModel(config).eval()


def traced(model: nn.Module, *inputs: dict[str, Any], **options: Any) -> Trace:
    with torch.no_grad(), capture(model, **options) as trace:
        for one in inputs:
            model(**one)
    return trace


def test_pictures() -> None:
    pixels = {"pixel_values": torch.randn(2, 3, 32, 32)}
    for record in traced(vit(), pixels).records:
        assert record.layout == TokenLayout.image(4, 4)
        assert (record.windows, record.batch_size, record.texts) == (None, 2, ())
    one, other = traced(vit(), pixels, {"pixel_values": torch.randn(1, 3, 32, 32)}).select(layers=0).records
    assert (one.batch_size, other.batch_size) == (2, 1)


def test_texts_of_a_batch_differ() -> None:
    model = peaky(hf.BertModel(hf.BertConfig(**SIZES)))
    records = traced(model, {"input_ids": IDS}, tokenizer=Letters()).records
    assert records[0].layout == TokenLayout({"text": 9})
    assert [text.tokens for text in records[0].texts] == [strings(row) for row in IDS]
    assert records[0].texts is records[1].texts
    same = traced(model, {"input_ids": IDS[:1].expand(3, -1)}, tokenizer=Letters()).records[0]
    assert same.layout == TokenLayout.text(strings(IDS[0]))
    special = traced(model, {"input_ids": IDS[:1].index_fill(1, torch.tensor([2, 5]), 0)}, tokenizer=Letters())
    assert special.records[0].layout.special == (2, 5)  # type: ignore[union-attr]


def test_decoding_steps_know_their_words() -> None:
    model = llama()
    with torch.no_grad(), capture(model, tokenizer=Letters()) as trace:
        out = model.generate(IDS, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0)
    step = trace.records[-1]
    assert step.layout is None
    assert [text.tokens for text in step.texts] == [strings(row[-2:-1]) for row in out]
    joined = trace.decoded()
    assert joined.records[0].layout == TokenLayout({"text": 11})
    for sample, row in enumerate(out):
        special = [place for place, i in enumerate(row[:-1].tolist()) if i == 0]
        assert joined.select(sample=sample)[0].layout == TokenLayout.text(strings(row[:-1]), special)


def test_windows() -> None:
    sizes = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 2}
    model = hf.SwinModel(hf.SwinConfig(image_size=(32, 48), patch_size=4, **sizes)).eval()
    trace = traced(model, {"pixel_values": torch.randn(2, 3, 32, 48)})
    record = trace.records[0]
    assert record.windows is not None
    assert record.layout == record.windows.layout == TokenLayout({"image": 96}, {"image": (8, 12)})
    assert record.batch_size == 2
    (one,) = of_sample([record], 1)
    assert one.windows is record.windows
    trace.layout = TokenLayout({"image": 4}, {"image": (2, 2)})
    assert trace[0].shape == record.shape  # every window a chain of its own
    trace.layout = TokenLayout({"left": 48, "right": 48})
    assert trace[0].layout == trace.layout
    assert trace[0].num_tokens == 96


def test_a_reason_instead_of_a_layout() -> None:
    class Windowed(nn.Module):
        """Patches of which a part is dropped."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.attention = nn.Conv2d(3, 16, 8, 8), nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, pixels: Tensor) -> Tensor:
            x = self.patches(pixels).flatten(2).mT[:, 1:]
            return self.attention(x, x, x)[0]

    trace = traced(Windowed(), {"pixels": torch.randn(1, 3, 32, 48)})
    reason = trace.records[0].layout
    assert isinstance(reason, LayoutError)
    assert reason.__traceback__ is None
    for _ in range(2):
        with pytest.raises(LayoutError, match=r"23 tokens .* 23 of the 24 patches .* dropped .*tr\.check_layout"):
            trace[0]
    trace.layout = False
    assert trace[0].num_tokens == 23
    trace.layout = None
    with pytest.raises(LayoutError, match="others were dropped"):
        trace.layout_of(trace.records[0])


@pytest.mark.faulty
def test_whatever_fails_does_not_leave_the_block() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        @property
        def config(self) -> Any:
            raise ZeroDivisionError("no configuration today")

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    trace = traced(Opaque(), {"x": torch.randn(1, 4, 16)})
    reason = r"internal error: .* failed with ZeroDivisionError: no configuration today \(test_layouts.py, line \d+\)"
    with pytest.raises(LayoutError, match=reason + "; please report it .* give one"):
        trace[0]
    model = peaky(hf.BertModel(hf.BertConfig(**SIZES)))
    trace = traced(model, {"input_ids": IDS}, tokenizer=Broken())
    with pytest.raises(
        LayoutError, match=r"internal error: .* OverflowError: out of range \(test_layouts.py.*give one"
    ):
        trace[0]
    trace.layout = False
    assert trace[0].layout is None


@pytest.mark.faulty
def test_the_model_is_let_go_when_the_block_ends() -> None:
    def run() -> tuple[Trace, weakref.ref[nn.Module]]:
        model = peaky(hf.BertModel(hf.BertConfig(**SIZES)))
        return traced(model, {"input_ids": IDS}, tokenizer=Broken()), weakref.ref(model)

    trace, model = run()
    gc.collect()
    assert model() is None
    assert isinstance(trace.records[0].layout, LayoutError)


def test_records_from_inside_the_block_are_those_of_after() -> None:
    model = vit()
    with torch.no_grad(), capture(model) as trace:
        model(torch.randn(1, 3, 32, 32))
        early = trace.records[0]
        assert early.layout is None
        assert trace.layout_of(early) == trace.select(layers=0).records[0].layout == TokenLayout.image(4, 4)
    assert trace.layout_of(early) == trace.chain_of(early).layout == TokenLayout.image(4, 4)
    assert trace.records[0].layout == TokenLayout.image(4, 4)


def test_a_trace_can_be_copied() -> None:
    trace = traced(vit(), {"pixel_values": torch.randn(1, 3, 32, 32)})
    for other in (copy.deepcopy(trace), pickle.loads(pickle.dumps(trace))):
        assert other[0].layout == TokenLayout.image(4, 4)
        assert torch.equal(other[0].to_dense(), trace[0].to_dense())


def test_a_block_that_raises_leaves_records_that_know() -> None:
    model = vit()
    with pytest.raises(ValueError, match="invalid literal"), torch.no_grad(), capture(model) as trace:
        int(f"{model(torch.randn(1, 3, 32, 32))} is not a number")
    assert trace.records[0].layout == TokenLayout.image(4, 4)


def test_shapes_alone_know_too() -> None:
    trace = traced(vit(), {"pixel_values": torch.randn(2, 3, 32, 32)}, device="meta")
    assert trace.records[0].layout == TokenLayout.image(4, 4)


def test_means_know_their_tokens() -> None:
    trace = traced(vit(), {"pixel_values": torch.randn(2, 3, 32, 32)}, reduce="mean")
    (mean,) = trace.records
    assert (mean.layout, mean.batch_size) == (TokenLayout.image(4, 4), 2)
    assert trace.select(sample=1)[0].layout == TokenLayout.image(4, 4)


def test_samples_of_a_branch_have_the_words_of_the_branch() -> None:
    forward = Forward(0, 1.0, ("unconditional", "conditional"))
    q = torch.randn(4, 2, 3, 8)
    texts = tuple(TokenLayout.text(word) for word in ("abc", "def", "ghi", "jkl"))
    record = AttentionRecord(
        "a", "", "sdpa", 0, forward, q, q, layout=TokenLayout({"text": 3}), texts=texts, batch_size=4
    )
    (half,) = of_branch([record], "conditional")
    assert half.layout == TokenLayout({"text": 3})
    assert (half.batch_size, half.texts) == (2, texts[2:])
    (one,) = of_sample([half], -1)
    assert (one.batch_size, one.layout) == (1, TokenLayout.text("jkl"))
    assert torch.equal(one.q, q[3:])  # type: ignore[arg-type]
    (shared,) = of_sample([replace(record, texts=texts[:1])], 2)
    assert shared.layout == TokenLayout.text("abc")


def test_evidence_that_cannot_be_read_is_like_no_other() -> None:
    model = vit()
    inputs = {"pixel_values": torch.Size((1, 3, 32, 32)), "odd": torch.sparse_coo_tensor(size=(2, 2))}
    resolver = Resolver(model, {0: Evidence(inputs, [(4, 4)], [1]), 1: Evidence(dict(inputs), [(4, 4)], [1])})
    weights = torch.full((1, 2, 17, 17), 1 / 17)
    name = "layers.0.attention"
    records = [AttentionRecord(name, "", "weights", 0, Forward(step), weights=weights) for step in (0, 1)]
    resolver.end(records)
    assert [record.layout for record in records] == [TokenLayout.image(4, 4)] * 2


def test_a_trace_shows_itself() -> None:
    trace = traced(vit(), {"pixel_values": torch.randn(1, 3, 32, 32)})
    html = Trace(list(trace.records), {"<flash>": 3})._repr_html_()
    assert html.count("<tr") == 3
    assert "Trace(2 modules, 2 records" in html
    assert "1×2×17×17" in html
    assert html.count("cls 1, image 4 × 4") == 2
    assert "not seen: 3 calls of &lt;flash&gt;, which hides its attention" in html
    unknown = replace(trace.records[0], layout=LayoutError("either or"))
    assert "not known: its chain says why" in Trace([unknown])._repr_html_()
    many = Trace([*trace.records] * 100)._repr_html_()
    assert many.count("<tr") == 1 + 60
    assert "140 more records; print(trace.summary()) has them all" in many


def test_without_layouts_nothing_is_followed_nor_claimed() -> None:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    model = hf.ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad(), capture(model, layout=False) as trace:
        model(torch.randn(1, 3, 32, 32))
    assert trace[0].layout is None
    trace.layout = None
    with pytest.raises(LayoutError, match="layout=False"):
        _ = trace[0]
    with torch.no_grad(), capture(model) as trace:
        model(torch.randn(1, 3, 32, 32))
    assert str(trace[0].layout) == "cls 1, image 4 × 4"
