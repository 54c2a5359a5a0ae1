"""Traces that tests write and compare, and strategies that make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import torch
from hypothesis import strategies as st
from torch import Tensor

from tokenrank.errors import LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.recording import AttentionKind, AttentionRecord, Forward
from tokenrank.trace import Trace

KINDS = [kind for kind in get_args(AttentionKind) if kind != "weights"]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

_names = st.text(st.characters(), max_size=8) | st.sampled_from(["a\x00\x1b[2J\n", "\ud800", "блок.3", ""])


def assert_same_tensor(a: Tensor | None, b: Tensor | None) -> None:
    """Type, shape and every bit."""
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        bits = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        assert torch.equal(*bits)


def assert_same_layout(a: AttentionRecord, b: AttentionRecord) -> None:
    """Spans in the same order, windows in the same places, errors in the same words."""
    assert repr(a.layout) == repr(b.layout)
    assert (a.windows is None) == (b.windows is None)
    if a.windows is not None and b.windows is not None:
        assert_same_tensor(a.windows.index, b.windows.index)
        assert replace(a.windows, index=b.windows.index) == b.windows


def assert_same_trace(a: Trace, b: Trace) -> None:
    """Records, what they share, and layouts given by hand."""
    assert len(a.records) == len(b.records)
    assert a.layout == b.layout
    for one, other in zip(a.records, b.records, strict=True):
        for name in ("name", "module", "kind", "index", "is_causal", "step", "timestep", "branches"):
            assert getattr(one, name) == getattr(other, name), name
        assert repr(one.scale) == repr(other.scale)
        assert (one.batch_size, one.texts) == (other.batch_size, other.texts)
        assert_same_layout(one, other)
        for part in ("q", "k", "mask", "sinks", "weights"):
            assert_same_tensor(getattr(one, part), getattr(other, part))
    for shared in ("forward", "mask"):
        ones, others = ([getattr(r, shared) for r in t.records] for t in (a, b))
        for i, x in enumerate(ones):
            for j, y in enumerate(ones):
                assert (x is y) == (others[i] is others[j])


@st.composite
def traces(draw: Any) -> Trace:
    """Any mix of kinds, types, shapes, masks shared or not, and forward calls."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))

    def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        values = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        if draw(st.booleans()):
            values.view(-1)[0] = draw(st.sampled_from([float("nan"), float("-inf"), -0.0]))
        return values.mT.contiguous().mT if values.ndim > 1 and draw(st.booleans()) else values

    times = st.none() | st.floats(allow_nan=False)
    branches = st.sampled_from([(), ("conditional",), ("unconditional", "conditional")])
    forwards = [Forward(step, draw(times), draw(branches)) for step in range(draw(st.integers(1, 2)))]
    batch = tuple(draw(st.lists(st.integers(1, 2), max_size=2)))
    heads, queries, keys, d = (draw(st.integers(1, 3)) for _ in range(4))
    full = (*batch, heads, queries, keys)
    mask_shapes = st.sampled_from([full, full[-2:], (1, keys), (keys,), ()])
    masks: list[Tensor | None] = [None]
    for _ in range(draw(st.integers(0, 2))):
        shape = draw(mask_shapes)
        boolean = torch.rand(shape, generator=generator) > 0.5
        masks.append(boolean if draw(st.booleans()) else numbers(shape or (1,), draw(st.sampled_from(FLOATS))))
    records = []
    for index in range(draw(st.integers(1, 4))):
        name, forward, dtype = draw(_names), draw(st.sampled_from(forwards)), draw(st.sampled_from(FLOATS))
        if draw(st.booleans()):
            kind = draw(st.sampled_from(["weights", "flex"]))
            records.append(AttentionRecord(name, "M", kind, index, forward, weights=numbers(full, dtype)))
            continue
        key_heads = draw(st.sampled_from([h for h in (1, 2, 3) if heads % h == 0]))
        sinks = numbers((heads,), dtype) if draw(st.booleans()) else None
        records.append(
            AttentionRecord(
                name,
                "Attention",
                draw(st.sampled_from(KINDS)),
                index,
                forward,
                numbers((*batch, heads, queries, d), dtype),
                numbers((*batch, key_heads, keys, d), dtype),
                draw(st.floats()),
                draw(st.sampled_from(masks)),
                draw(st.booleans()),
                sinks,
            )
        )
    return Trace([known(draw, r) for r in records], layout=draw(st.sampled_from([None, False])))


def known(draw: Any, record: AttentionRecord) -> AttentionRecord:
    """The record with any layout, or none, or a reason why, with texts and a batch size."""
    queries, keys = record.shape[-2:]
    words = st.lists(st.text(st.characters(), max_size=3), min_size=queries, max_size=queries)
    special = st.sets(st.integers(0, queries - 1)).map(sorted)
    layouts = [None, LayoutError(draw(st.text(max_size=5))), TokenLayout({"b": keys - 1, "a": 1}), square(keys)]
    texts = [TokenLayout.text(draw(words), draw(special)) for _ in range(draw(st.integers(0, 2)))]
    size = draw(st.none() | st.integers(1, 3))
    return replace(record, layout=draw(st.sampled_from(layouts)), texts=tuple(texts), batch_size=size)


def square(count: int) -> TokenLayout:
    return TokenLayout({"video": count}, {"video": (1, 1, count)})
