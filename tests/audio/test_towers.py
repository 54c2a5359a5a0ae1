"""Every tower of a model has its own tokens: found, given by name of the layer, written and read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import CaptureError, ChainError, InputError, LayoutError, NotFoundError

ENCODER, DECODER = "model.encoder.layers.0.self_attn", "model.decoder.layers.0.self_attn"
CROSS = "model.decoder.layers.0.encoder_attn"


def test_words_to_frames(heard: tr.Observation):
    cross = heard.trace.cross(CROSS)
    assert cross.rows.tokens[-1] == "Ġtired"
    assert cross.columns.spans == {"audio": 60, "padding": 40}
    assert str(cross.columns) == "audio 60, padding 40"
    assert "text" in repr(cross)


def test_source_words_of_a_translation():
    from transformers import T5Config, T5ForConditionalGeneration

    class Letters:
        all_special_ids = (1,)

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [chr(96 + i) for i in ids]

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ).eval()
    with torch.no_grad(), tr.capture(model, tokenizer=Letters()) as trace:
        model(input_ids=torch.tensor([[3, 1, 20, 1]]), decoder_input_ids=torch.tensor([[4, 15, 7]]))
    cross = trace.cross("*EncDecAttention")
    assert cross.rows.tokens == ("d", "o", "g")
    assert cross.columns.tokens == ("c", "a", "t", "a")
    assert cross.columns.special == (1, 3)
    with torch.no_grad(), tr.capture(model, tokenizer=Letters()) as trace:  # as many words on both sides
        model(input_ids=torch.tensor([[3, 1, 20]]), decoder_input_ids=torch.tensor([[4, 15, 7]]))
    assert trace.cross("*EncDecAttention").columns.tokens == ("c", "a", "t")


def test_layouts_by_name_of_the_layer(whisper: tr.Model, heard: tr.Observation):
    frames, words = tr.TokenLayout.audio(100, 0.02), tr.TokenLayout({"said": heard.trace[DECODER].num_tokens})
    choice = {"*encoder.layers*": frames, "*decoder*self_attn": words}
    with torch.no_grad(), tr.capture(whisper, layout=choice) as trace:
        whisper.forward(heard.inputs)
    assert trace[ENCODER].layout == frames
    assert trace[DECODER].layout == words
    assert trace.cross(CROSS).columns == frames
    trace.layout = {"*encoder*": frames}  # which fits encoder_attn as well: it counts the frames there
    assert trace.cross(CROSS).columns == frames
    assert trace.cross(CROSS).rows.tokens is not None
    with pytest.raises(NotFoundError, match=r"given for '\*encodr\*', which fits no layer; "):
        trace.layout = {"*encodr*": frames}
    trace.layout = {"*encoder_attn": words}
    assert (trace.cross(CROSS).rows, trace.cross(CROSS).columns.spans) == (words, {"audio": 60, "padding": 40})
    trace.layout = tr.TokenLayout({"other": 7})
    with pytest.raises(LayoutError, match="cover the ones or the others"):
        trace.cross(CROSS)
    trace.layout = False
    assert trace.cross(CROSS).columns is None
    trace.layout = {"*layers.1.self_attn": False}
    assert trace["model.encoder.layers.1.self_attn"].layout is None
    assert trace[ENCODER].layout.spans == {"audio": 60, "padding": 40}  # which no glob fits: its own
    for wrong in ({"*": 3}, {"*": None}, "frames", 5):
        with pytest.raises(InputError, match="mapping from names or globs"):
            trace.layout = wrong


def test_files_keep_seconds_sides_and_choices(heard: tr.Observation, tmp_path: Path):
    trace = heard.trace.select()
    trace.layout = {"*decoder*self_attn": False, "*encoder.layers.1*": tr.TokenLayout.audio(100, 0.5)}
    trace.save(tmp_path / "trace.safetensors")
    read = tr.load_trace(tmp_path / "trace.safetensors")
    assert read.layout == trace.layout
    assert [record.sides for record in read.records] == [record.sides for record in trace.records]
    assert read.cross(CROSS).columns.seconds == {"audio": (0.0, 0.5)}
    assert read[ENCODER].layout.seconds == {"audio": (0.0, 0.02)}


def test_generating_and_giving_layouts_afterwards(whisper: tr.Model, heard: tr.Observation):
    with torch.no_grad(), tr.capture(whisper) as trace:
        whisper.module.generate(heard.inputs["input_features"], max_new_tokens=4)
    joined = trace.decoded()
    joined.layout = {"*encoder.layers*": tr.TokenLayout.audio(60, 0.02, padding=40)}
    cross = joined.cross(CROSS)
    assert cross.shape[-2] > 1
    assert cross.columns.spans == {"audio": 60, "padding": 40}
    assert joined[ENCODER].restrict("audio").num_tokens == 60


def test_a_record_of_its_own_tokens_is_no_cross_attention(heard: tr.Observation):
    with pytest.raises(CaptureError, match="is among its own 100 tokens"):
        heard.trace.cross(ENCODER)
    with pytest.raises(CaptureError, match=r"take trace\.cross"):
        heard.trace[CROSS]
    with pytest.raises(NotFoundError):
        heard.trace.cross("nothing")


def cross(rows: int = 3, columns: int = 5) -> tr.CrossAttention:
    weights = torch.rand(2, rows, columns, dtype=torch.float64)
    layouts = tr.TokenLayout.text([f"w{i}" for i in range(rows)]), tr.TokenLayout.audio(columns - 1, 0.02, padding=1)
    return tr.CrossAttention(weights / weights.sum(-1, keepdim=True), *layouts)


@given(st.integers(1, 5), st.integers(2, 6))
def test_turned_round(rows: int, columns: int):
    given_ = cross(rows, columns)
    found = given_.turned()
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, columns, dtype=torch.float64))
    a = given_.weights.numpy()
    right = a.transpose(0, 2, 1) / a.sum(1)[..., None]
    torch.testing.assert_close(found.weights, torch.from_numpy(right))
    assert (found.rows, found.columns) == (given_.columns, given_.rows)


def test_a_column_that_nobody_attends_to():
    empty = tr.CrossAttention(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(ChainError, match="column 1 is attended to by no row"):
        empty.turned()
    with pytest.raises(ChainError, match="row 0 has no weight on the 1 columns that stay"):
        empty.restrict(columns=[1])
    assert empty.restrict(columns=[0]).weights.tolist() == [[1.0], [1.0]]


def test_restricted_and_mixed():
    whole = cross()
    part = whole.restrict(rows=[2], columns="audio")
    right = whole.weights[:, 2:, :4] / whole.weights[:, 2:, :4].sum(-1, keepdim=True)
    torch.testing.assert_close(part.weights, right)
    assert part.columns == tr.TokenLayout.audio(4, 0.02)
    assert part.rows.tokens == ("w2",)
    torch.testing.assert_close(whole.aggregate().weights, whole.weights.mean(0))
    mixed = whole.aggregate([1.0, 3.0]).weights
    torch.testing.assert_close(mixed, 0.25 * whole.weights[0] + 0.75 * whole.weights[1])
    torch.testing.assert_close(whole[1].weights, whole.weights[1])
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ChainError, match="expected 2 numbers ≥ 0"):
            whole.aggregate(weights)
    for words in ("lambda2", ["one", "two"]):
        with pytest.raises(ChainError, match="expected 'uniform' or 2 numbers"):
            whole.aggregate(words)
    with pytest.raises(ChainError, match="no heads to mix"):
        whole[0].aggregate()
    with pytest.raises(ChainError, match="expected fewer"):
        whole[0, 0]
    with pytest.raises(ChainError, match="expected indices from 0 to 4"):
        whole.restrict(columns=[7])


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (torch.tensor([[0.5, 0.4]]), ChainError),
        (torch.tensor([[1.5, -0.5]]), ChainError),
        (torch.tensor([[float("nan"), 1.0]]), ChainError),
        (torch.tensor([1.0]), ChainError),
    ],
)
def test_no_cross_attention(weights: torch.Tensor, error: type[Exception]):
    with pytest.raises(error):
        tr.CrossAttention(weights)


def test_layouts_of_another_size():
    with pytest.raises(LayoutError, match="layout of the columns has 3 tokens"):
        tr.CrossAttention(torch.tensor([[0.5, 0.5]]), None, tr.TokenLayout.audio(3, 0.02))


def test_bipartite_takes_either_direction_and_refuses_a_guess():
    chain = tr.AttentionChain(torch.full((4, 4), 0.25, dtype=torch.float64), tr.TokenLayout.audio(4, 0.02))
    words = cross()[0].restrict(columns="audio")
    one, other = tr.bipartite(chain, words), tr.bipartite(chain, words.turned())
    torch.testing.assert_close(one.to_dense(), other.to_dense())
    square = tr.CrossAttention(torch.full((4, 4), 0.25))
    with pytest.raises(ChainError, match="which side is the chain's 4 tokens no layout says"):
        tr.bipartite(chain, square)
    named = tr.CrossAttention(torch.eye(4)[[1, 2, 3, 0]], tr.TokenLayout.text("abcd"), chain.layout)
    assert tr.bipartite(chain, named, step=1.0).to_dense()[0, 4:].tolist() == [0, 0, 0, 1]


def test_seconds_of_a_layout():
    layout = tr.TokenLayout.audio(5, 0.02, padding=2)
    assert layout.token_at(tr.at(seconds=0.06)) == 3  # 0.06 / 0.02 is a little less than 3
    assert layout.times() == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    later = layout.select([2, 3, 4, 6])
    assert later.seconds == {"audio": (0.04, 0.02)}
    assert later.token_at(tr.at(seconds=0.05)) == 0
    assert layout.select([0, 2]).seconds == {}
    assert layout.after("sink", "<sink>").token_at(tr.at(seconds=0.03)) == 2
    for seconds in (0.1, 0.14):
        with pytest.raises(LayoutError, match=r"from 0 to 0\.1 s"):
            layout.token_at(tr.at(seconds=seconds))
    with pytest.raises(LayoutError, match="no span has seconds"):
        tr.TokenLayout.image(2, 2).token_at(tr.at(seconds=0.1))
    with pytest.raises(LayoutError, match="which tokens are the picture"):
        layout.token_at(tr.at(0.5, 0.5))


@given(st.integers(1, 1500), st.integers(0, 1499))
def test_every_frame_is_found_at_its_own_time(frames: int, frame: int):
    layout = tr.TokenLayout.audio(frames, 0.02)
    frame = min(frame, frames - 1)
    assert layout.token_at(tr.at(seconds=layout.times()[frame])) == frame
    assert layout.token_at(tr.at(seconds=frame * 0.02 + 0.01)) == frame


@pytest.mark.parametrize(
    "seconds", [{"nothing": (0, 1)}, {"a": (0, 0)}, {"a": (0, -1)}, {"a": (float("nan"), 1)}, {"a": (0, float("inf"))}]
)
def test_seconds_that_do_not_go_on(seconds: dict[str, tuple[float, float]]):
    with pytest.raises(LayoutError, match="expected \\(begin, seconds a token\\)"):
        tr.TokenLayout({"a": 3}, seconds=seconds)


@pytest.mark.parametrize("given_", [{}, {"x": 0.5}, {"x": 0.5, "y": 0.5, "seconds": 1.0}, {"t": 0.1, "seconds": 1.0}])
def test_neither_a_point_nor_a_moment(given_: dict[str, float]):
    with pytest.raises(LayoutError, match="expected x and y of a picture, or seconds of a sound alone"):
        tr.at(**given_)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_no_moment(seconds: float):
    with pytest.raises(LayoutError, match="expected seconds from its beginning"):
        tr.at(seconds=seconds)
