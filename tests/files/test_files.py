"""Traces as files: what goes in comes out, bit by bit, whatever else happens to the file system."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open

import tokenrank as tr
from tests.tiny import save_bert, save_vit
from tokenrank.errors import InputError, LayoutError
from tokenrank.layout import TokenLayout
from tokenrank.recording import AttentionRecord, Forward
from tokenrank.trace import Trace, load_trace

from .traces import assert_same_tensor, assert_same_trace, traces


def small(**changes: object) -> AttentionRecord:
    q, k = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    fields = {"q": q, "k": k, "scale": 0.5, **changes}
    return AttentionRecord("layer.0", "Attention", "sdpa", 0, Forward(0), **fields)  # type: ignore[arg-type]


@given(trace=traces())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_trace_comes_back_bit_by_bit(trace: Trace, tmp_path: Path):
    trace.save(tmp_path / "trace")
    assert_same_trace(trace, load_trace(tmp_path / "trace"))


def test_trace_of_a_real_model_keeps_chains_and_layouts(tmp_path):
    from transformers import DINOv3ViTModel

    model = DINOv3ViTModel.from_pretrained(save_vit(tmp_path / "vit"))
    with torch.no_grad(), tr.capture(model) as trace:
        model(torch.randn(1, 3, 32, 48))
    trace.save(tmp_path / "trace.safetensors")
    loaded = load_trace(tmp_path / "trace.safetensors")
    assert_same_trace(trace, loaded)
    for name in trace:
        assert loaded[name].layout == trace[name].layout
        assert torch.equal(loaded[name].to_dense(), trace[name].to_dense())
    assert loaded[0].layout is not None
    assert loaded[0].layout.grids == {"image": (4, 6)}
    assert loaded.select(layers=[-1]).records[0].name == trace.names[-1]
    assert loaded.summary() == trace.summary()


def test_padding_and_shared_masks_are_stored_once(tmp_path):
    from transformers import BertModel

    model = BertModel.from_pretrained(save_bert(tmp_path / "bert"))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    with torch.no_grad(), tr.capture(model) as trace:
        model(torch.randint(5, 14, (2, 6)), attention_mask=mask)
    trace.save(tmp_path / "trace")
    loaded = load_trace(tmp_path / "trace")
    assert_same_trace(trace, loaded)
    assert len(trace.records) == 3
    assert loaded.records[0].mask is loaded.records[2].mask is not None
    with safe_open(tmp_path / "trace", "pt") as file:
        assert sum("mask" in name for name in file.keys()) == 1  # noqa: SIM118


def test_windows_are_put_together_after_loading_too(tmp_path):
    from transformers import SwinConfig, SwinModel

    sizes = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 2}
    model = SwinModel(SwinConfig(image_size=(32, 48), patch_size=4, **sizes)).eval()
    with torch.no_grad(), tr.capture(model) as trace:
        model(torch.randn(2, 3, 32, 48))
    trace.save(tmp_path / "trace")
    loaded = load_trace(tmp_path / "trace")
    assert_same_trace(trace, loaded)
    for i in range(len(trace)):
        assert loaded[i].layout == trace[i].layout
        assert torch.equal(loaded[i].to_dense(), trace[i].to_dense())
    assert loaded[0].num_tokens == 8 * 12
    one, other = (t.select(sample=1)[0] for t in (trace, loaded))
    assert torch.equal(one.to_dense(), other.to_dense())


def test_layout_given_by_hand_and_ambiguous_layouts_come_back(tmp_path):
    layout = TokenLayout({"cls": 1, "image": 4}, {"image": (2, 2)}, tuple("a\x00\ud800é "), (0,))
    Trace([small()], layout=layout).save(tmp_path / "given")
    given_back = load_trace(tmp_path / "given")
    assert given_back.layout == layout
    assert list(given_back.layout.spans) == ["cls", "image"]
    Trace([small(layout=LayoutError("either this or that"))]).save(tmp_path / "ambiguous")
    with pytest.raises(LayoutError, match="either this or that"):
        load_trace(tmp_path / "ambiguous")[0]
    video = Trace([small()], layout=TokenLayout({"video": 4, "text": 1}, {"video": (2, 1, 2)}))
    video.save(tmp_path / "video")
    assert load_trace(tmp_path / "video").layout == video.layout


def test_decoding_steps_join_after_loading_with_their_layout(tmp_path):
    q, k = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    text = TokenLayout.text("abcd", (0,))
    first = AttentionRecord(
        "a", "", "sdpa", 0, Forward(0), q[..., :4, :], k[..., :4, :], 0.5, None, True, texts=(text,)
    )
    step = AttentionRecord("a", "", "sdpa", 0, Forward(1), q[..., 4:, :], k, 0.5, texts=(TokenLayout.text("e", (0,)),))
    trace = Trace([replace(first, layout=TokenLayout({"text": 4})), step])
    trace.save(tmp_path / "trace")
    joined = load_trace(tmp_path / "trace").decoded()["a"]
    assert joined.layout == TokenLayout.text("abcde", (0, 4))
    assert torch.equal(joined.to_dense(), trace.decoded()["a"].to_dense())


@pytest.mark.parametrize("how", ["view", "expanded", "transposed", "gradient", "inference", "parameter"])
def test_tensors_of_every_make_are_written(how, tmp_path):
    base = torch.randn(3, 5, 8)
    with torch.inference_mode():
        born = torch.randn(3, 5, 4)
    makes = {
        "view": lambda: base[..., :4],
        "expanded": lambda: base[:1, :, :4].expand(3, 5, 4),
        "transposed": lambda: torch.randn(3, 4, 5).mT,
        "gradient": lambda: torch.randn(3, 5, 4, requires_grad=True) * 2,
        "inference": lambda: born,
        "parameter": lambda: torch.nn.Parameter(torch.randn(3, 5, 4)),
    }
    q = makes[how]()
    k = base[..., 4:] if how == "view" else q.flip(-1).detach() if how != "inference" else born
    trace = Trace([small(q=q, k=k)])
    trace.save(tmp_path / "trace")
    loaded = load_trace(tmp_path / "trace").records[0]
    assert_same_tensor(loaded.q, q)
    assert_same_tensor(loaded.k, k)
    assert not loaded.q.requires_grad
    assert not loaded.q.is_inference()


def test_views_of_one_memory_stay_apart(tmp_path):
    base = torch.randn(3, 5, 4)
    trace = Trace([small(q=base, k=base.view(3, 5, 4)), small(q=base.view(3, 5, 4), k=base.reshape(3, 10, 2)[:, :5])])
    trace = Trace([trace.records[0], small(q=base, k=base.reshape(3, 5, 2, 2).flatten(-2))])
    trace.save(tmp_path / "trace")
    assert_same_trace(trace, load_trace(tmp_path / "trace"))


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path):
    trace = Trace([small()])
    trace.save(tmp_path / "trace")
    loaded = load_trace(tmp_path / "trace")
    (tmp_path / "trace").write_bytes(b"")
    assert_same_trace(trace, loaded)
    loaded.records[0].q.add_(1)


def test_saving_replaces_an_older_file_and_follows_links(tmp_path):
    Trace([small()]).save(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    newer = Trace([small(), small()])
    newer.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_same_trace(newer, load_trace(tmp_path / "real"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    Trace([small()]).save(tmp_path / "trace")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "trace")}
    assert len(modes) == 1


def test_a_save_that_fails_leaves_the_older_file_and_nothing_else(tmp_path, monkeypatch):
    older = Trace([small()])
    older.save(tmp_path / "trace")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match="No space left"):
        Trace([small(), small()]).save(tmp_path / "trace")
    assert_same_trace(older, load_trace(tmp_path / "trace"))
    assert [p.name for p in tmp_path.iterdir()] == ["trace"]


def test_what_cannot_be_saved_says_why(tmp_path):
    trace = Trace([small()])
    with pytest.raises(InputError, match="does not exist; make it first"):
        trace.save(tmp_path / "missing" / "trace")
    with pytest.raises(InputError, match="it is a folder"):
        trace.save(tmp_path)
    with pytest.raises(InputError, match="give the path of a file"):
        trace.save(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="without records"):
        Trace([]).save(tmp_path / "trace")
    shapes = Trace([small(q=torch.empty(3, 5, 4, device="meta"), k=torch.empty(3, 5, 4, device="meta"))])
    with pytest.raises(InputError, match="device 'meta'"):
        shapes.save(tmp_path / "trace")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_loaded_says_why(tmp_path):
    Trace([small()]).save(tmp_path / "trace.safetensors")
    with pytest.raises(InputError, match=r"nearest: 'trace.safetensors'"):
        load_trace(tmp_path / "trace.safetensor")
    with pytest.raises(InputError, match="is a folder"):
        load_trace(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_trace(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read"):
        load_trace("a\x00b")
    with pytest.raises(InputError, match="which PyTorch refuses"):
        load_trace(tmp_path / "trace.safetensors", device="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_of_a_gpu_are_saved_and_loaded_there(tmp_path):
    mask = torch.rand(5, 5, device="cuda") > 0.1
    q, k = torch.randn(3, 5, 4, device="cuda", dtype=torch.bfloat16), torch.randn(3, 5, 4, device="cuda").mT.mT
    trace = Trace([small(q=q, k=k, mask=mask), small(q=q, k=k, mask=mask)])
    trace.save(tmp_path / "trace")
    assert_same_trace(trace, load_trace(tmp_path / "trace"))
    assert {t.device.type for r in load_trace(tmp_path / "trace", "cuda").records for t in r.tensors.values()} == {
        "cuda"
    }
