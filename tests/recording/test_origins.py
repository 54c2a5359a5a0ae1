"""Patches followed through PyTorch's functions: the oracle is a tensor whose entries are the numbers of their cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tokenrank.recording.mode import AttentionMode
from tokenrank.recording.origins import Lost, Origins
from tokenrank.recording.origins.kinds import kind_of, name_of

ROWS, COLUMNS, BATCH = 2, 3, 2


@contextmanager
def following() -> Iterator[Origins]:
    """Under the mode that records, with nothing to record."""
    origins, faults = Origins(), list[Exception]()
    with AttentionMode({}, {}, {}, lambda function: (None, False), faults.append, origins=origins):
        yield origins
    assert not faults


def numbered(batch: int = BATCH, width: int = 4) -> Tensor:
    """(B, d, rows, columns) by a convolution: every entry is the number of its cell."""
    cells = torch.arange(batch * ROWS * COLUMNS, dtype=torch.float64).view(batch, 1, ROWS, COLUMNS)
    return F.conv2d(cells, torch.ones(width, 1, 1, 1, dtype=torch.float64))


def none(*shape: int) -> Tensor:
    """Entries that are made of no patch."""
    return torch.full(shape, -1.0, dtype=torch.float64)


def agree(origins: Origins, tensor: Tensor) -> None:
    cells = origins.cells(tensor)
    assert isinstance(cells, Tensor), cells
    assert torch.equal(cells.expand(tensor.shape).double(), tensor)


def tokens() -> Tensor:
    return numbered().flatten(2).transpose(1, 2)  # (B, N, d)


def assigned(x: Tensor) -> Tensor:
    out = none(x.shape[0], x.shape[1] + 2, x.shape[2])
    out[:, 1:-1] = x
    return out


def interleaved(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[..., 0::2], out[..., 1::2] = x[..., 0::2], x[..., 1::2]
    return out


def scattered(x: Tensor) -> Tensor:
    places = torch.zeros(x.shape[0], x.shape[1] + 3, dtype=torch.bool)
    places[:, 2 : 2 + x.shape[1]] = True
    return none(x.shape[0], x.shape[1] + 3, x.shape[2]).masked_scatter(places[..., None], x)


def windows(x: Tensor) -> Tensor:
    """(B, N, d) as windows of one row of patches each, and back, in the order of columns."""
    b, n, d = x.shape
    return x.view(b, n // 3, 3, d).permute(0, 2, 1, 3).reshape(b * 3, -1, d).unflatten(0, (b, 3)).flatten(1, 2)


def gathered(x: Tensor) -> Tensor:
    index = torch.arange(x.shape[1]).flip(0)[None, :, None].expand(x.shape[0], -1, x.shape[2])
    return x.gather(1, index)


def heads_in_the_batch(x: Tensor) -> Tensor:
    heads = x.unflatten(2, (2, -1)).transpose(1, 2)
    return heads.flatten(0, 1).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)


MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "transpose twice": lambda x: x.mT.transpose(-1, -2),
    "heads": lambda x: x.view(*x.shape[:2], 2, -1).permute(0, 2, 1, 3).transpose(1, 2).flatten(2),
    "heads in the batch": heads_in_the_batch,
    "flip": lambda x: x.flip(1),
    "roll": lambda x: torch.roll(x, 2, dims=1),
    "cls": lambda x: torch.cat([none(x.shape[0], 1, x.shape[2]), x], dim=1),
    "cls after": lambda x: torch.cat((x, none(1, 2, x.shape[2]).expand(len(x), -1, -1)), 1),
    "pad": lambda x: F.pad(x, (0, 0, 1, 0), value=-1.0),
    "getitem": lambda x: x[:, 1:] if x.shape[1] > 3 else x,
    "index": lambda x: x[:, torch.arange(x.shape[1]).flip(0)],
    "index of both": lambda x: x[torch.arange(len(x))[:, None], torch.arange(x.shape[1]).roll(1)[None]],
    "select": lambda x: x.index_select(1, torch.arange(x.shape[1]).roll(1)),
    "gather": gathered,
    "unbind and stack": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "iterate": lambda x: torch.stack(list(x)),
    "split and cat": lambda x: torch.cat(x.split(2, dim=1)[::-1], 1),
    "chunk of features": lambda x: torch.cat(x.chunk(2, -1), -1),
    "repeat": lambda x: x.repeat_interleave(2, 0)[::2],
    "expand": lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1)[:, 1],
    "einsum": lambda x: torch.einsum("b n d -> n b d", x).movedim(0, 1),
    "assign": assigned,
    "interleave": interleaved,
    "scatter": scattered,
    "windows": lambda x: windows(x) if x.shape[1] % 3 == 0 else x,
    "where": lambda x: torch.where(torch.ones(x.shape[1], 1, dtype=torch.bool), x, x),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "add zero": lambda x: x + torch.zeros(1, x.shape[1], x.shape[2], dtype=x.dtype),
    "in place": lambda x: x.mul_(1.0),
    "residual": lambda x: 0.5 * x + 0.5 * x.clone(),
    "mean of features": lambda x: x.mean(-1, keepdim=True).expand_as(x),
    "linear": lambda x: F.linear(x, torch.eye(x.shape[-1], dtype=x.dtype)),
    "casts": lambda x: x.to(torch.float32).double(),
}  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=7))
def test_cells_go_where_the_entries_go(names: list[str]) -> None:
    with following() as origins:
        x = tokens()
        for name in names:
            x = MOVES[name](x)
            agree(origins, x)


@pytest.mark.parametrize("name", MOVES)
def test_each_move_is_made_by_itself(name: str) -> None:
    with following() as origins:
        agree(origins, MOVES[name](tokens()))


def test_attention_leaves_tokens_where_their_queries_are() -> None:
    with following() as origins:
        x = tokens().flip(1)
        q = x.unflatten(2, (2, -1)).transpose(1, 2)
        fused = F.scaled_dot_product_attention(q, q, q)
        trail = origins.latest()
        weights = (q @ q.mT).softmax(-1)
        assert origins.latest() is trail  # the same tokens
        by_hand = weights @ q
        einsum = torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", q, q).softmax(-1), q)
    assert not isinstance(trail, Lost)
    assert trail is not None
    assert torch.equal(trail.cells.double(), x[..., 0])
    assert [p.grid for p in trail.pictures] == [(ROWS, COLUMNS)]
    for out in (fused, by_hand, einsum):
        cells = origins.cells(out)
        assert isinstance(cells, Tensor)
        assert torch.equal(cells.expand(q.shape).double(), q)


def test_the_same_move_by_other_indices_is_another_one() -> None:
    with following() as origins:
        x, indices = tokens(), torch.arange(ROWS * COLUMNS)
        for order in (indices.clone(), indices.flip(0).clone(), indices.roll(2)):
            indices.copy_(order)
            agree(origins, x.index_select(1, indices))
        for part in (slice(0, 2), slice(1, 3), slice(None, None, 2)):
            agree(origins, x[:, part])
            agree(origins, x[:, part])


def test_what_was_attended_to_before_is_not_said_again() -> None:
    with following() as origins:
        x = tokens()
        F.scaled_dot_product_attention(x, x, x)
        assert origins.latest() is not None
        del x
        words = torch.randn(BATCH, 5, 4)
        F.scaled_dot_product_attention(words, words, words)
        assert origins.latest() is None
        x = tokens()
        (x @ x.mT).softmax(-1)
        assert origins.latest() is not None
        del x
        (words @ words.mT).softmax(-1)
        assert origins.latest() is None


def test_parts_of_what_is_lost_are_lost_again() -> None:
    with following() as origins:
        lost = tokens().sum(1)
        for _ in range(2):
            for part in lost.unbind(0):
                assert isinstance(origins.cells(part), Lost)


def test_an_empty_batch() -> None:
    with following() as origins:
        x = numbered(batch=0).flatten(2).transpose(1, 2)
        heads = x.reshape(0, ROWS * COLUMNS, 2, 2).permute(0, 2, 1, 3)
        for tensor in (x, heads, heads.flatten(0, 1), x.view(0, 2, 3, 4), x.flatten()):
            cells = origins.cells(tensor)
            assert isinstance(cells, Tensor)
            assert cells.expand(tensor.shape).numel() == 0
        F.scaled_dot_product_attention(heads, heads, heads)
        assert not isinstance(origins.latest(), Lost)


def test_queries_of_others_hold_no_patch() -> None:
    with following() as origins:
        x, queries = tokens(), torch.randn(BATCH, 5, 4, dtype=torch.float64)
        read = (queries @ x.mT).softmax(-1) @ x
        assert origins.cells(read) is None
        assert origins.cells(F.scaled_dot_product_attention(queries, x, x)) is None


LOSING: dict[str, Callable[[Tensor], Any]] = {
    "a sum over patches": lambda x: x.sum(1),
    "mean": lambda x: x.mean(),
    "a mixture": lambda x: F.linear(x.mT, torch.ones(3, x.shape[1], dtype=x.dtype)),
    "a matrix of numbers": lambda x: torch.ones(3, x.shape[1], dtype=x.dtype) @ x,
    "neighbours": lambda x: x[:, 1:] + x[:, :-1],
    "merged": lambda x: F.linear(torch.cat([x[:, 0::2], x[:, 1::2]], -1), torch.ones(4, 8, dtype=x.dtype)),
    "an unknown function": lambda x: x.cumsum(1),
    "sorted": lambda x: x.sort(1).values,
    "spectrum": lambda x: torch.fft.fft(x, dim=1).real,
    "keys of others": lambda x: F.layer_norm(x.cumsum(1), (x.shape[-1],)),
}


@pytest.mark.parametrize("name", LOSING)
def test_what_is_not_known_is_lost(name: str) -> None:
    with following() as origins:
        out = LOSING[name](tokens())
        assert isinstance(origins.cells(out), Lost)
        # and stays so, beside others
        assert isinstance(origins.cells(torch.cat([out.reshape(1, -1), torch.ones(1, 2)], 1)), Lost)


def test_pooled_gates_do_not_lose_tokens() -> None:
    with following() as origins:
        x = tokens()
        gate = x.mean(1, keepdim=True)
        assert isinstance(origins.cells(gate), Lost)
        gated = x * gate
        cells = origins.cells(gated)
    assert isinstance(cells, Tensor)


def test_convolutions_keep_halve_and_lose() -> None:
    kernel = torch.randn(4, 4, 3, 3, dtype=torch.float64)
    with following() as origins:
        x = numbered()
        same = F.conv2d(x, kernel, padding=1)
        assert origins.cells(same) is origins.cells(x)
        halved = F.conv2d(F.pad(x, (0, 1, 0, 0)), kernel[..., :2, :2], stride=2)
        cells = origins.cells(halved)
        assert isinstance(cells, Tensor)
        assert cells.shape == (BATCH, 1, 1, 2)
        assert torch.equal(F.max_pool2d(x, 2), F.max_pool2d(x, 2))
        # a second one of the same size is the same picture, so that both can be added
        assert isinstance(origins.cells(halved + F.max_pool2d(F.pad(x, (0, 1)), 2)), Tensor)
        shuffled = x.flip(-1)
        assert origins.cells(F.conv2d(shuffled, kernel, padding=1)) is origins.cells(shuffled)
        assert isinstance(origins.cells(F.conv2d(shuffled, kernel[..., :1, :1], stride=2)), Lost)
        assert isinstance(origins.cells(F.conv2d(torch.randn(6, 3, 8, 8), torch.randn(4, 3, 8, 8))), Lost)


def test_two_pictures_are_told_apart() -> None:
    with following() as origins:
        one, two = numbered(), numbered()
        both = torch.cat([one, two], -1)
        cells = origins.cells(both)
        assert isinstance(cells, Tensor)
        assert len(cells.unique()) == 2 * BATCH * ROWS * COLUMNS
        assert isinstance(origins.cells(one + two), Lost)


def test_windows_around_every_patch_and_back() -> None:
    with following() as origins:
        x = numbered()
        around = F.unfold(x, 3, padding=1)
        cells = origins.cells(around)
        assert isinstance(cells, Tensor)
        assert torch.equal(cells.flatten(1), torch.arange(BATCH * ROWS * COLUMNS).view(BATCH, -1))
        back = F.fold(around, (ROWS, COLUMNS), 3, padding=1)
        assert torch.equal(origins.cells(back), origins.cells(x))  # type: ignore[arg-type]
        slices = x.unfold(3, 2, 1)  # another function of that name: a view
        agree(origins, slices)


def test_a_write_into_a_part_of_another_tensor_is_not_forgotten() -> None:
    with following() as origins, torch.no_grad():
        x = tokens()
        buffer = torch.zeros(BATCH, 8, 4, dtype=torch.float64)
        buffer[:, :6].copy_(x)
        assert isinstance(origins.cells(buffer), Lost)


def test_nothing_is_kept_alive() -> None:
    with following() as origins:
        x = tokens()
        del x
        assert len(origins.known) == 0


def test_inference_mode_and_half_precision() -> None:
    with torch.inference_mode(), following() as origins:
        x = tokens().to(torch.bfloat16)
        cells = origins.cells(x.flip(1))
    assert isinstance(cells, Tensor)


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (torch.add, "add", "same"),
        (Tensor.__iadd__, "add", "same"),
        (Tensor.__radd__, "add", "same"),
        (Tensor.add_, "add", "same"),
        (torch.ops.aten.add.Tensor, "add", "same"),
        (Tensor.__getitem__, "getitem", "move"),
        (Tensor.__iter__, "iter", "move"),
        (Tensor.T.__get__, "T", "move"),
        (Tensor.shape.__get__, "shape", "made"),
        (F.linear, "linear", "linear"),
        (F.softmax, "softmax", "same"),
        (torch.cumsum, "cumsum", "unknown"),
        (nn.functional.unfold, "unfold", "window"),
        (Tensor.unfold, "unfold", "move"),
        (Tensor.__matmul__, "matmul", "product"),
        (Tensor.__bool__, "bool", "same"),
    ],
)  # fmt: skip
def test_functions_are_known_by_their_names(function: Any, name: str, kind: str) -> None:
    assert (name_of(function), kind_of(function)) == (name, kind)
