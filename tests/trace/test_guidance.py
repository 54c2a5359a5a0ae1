"""Timesteps and branches of guidance, from real denoisers called as their pipelines call them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from tokenrank.errors import CaptureError, InputError, NotFoundError
from tokenrank.layout import TokenLayout
from tokenrank.trace import Trace, capture

diffusers = pytest.importorskip("diffusers")

SELF = "*attn1"


def unet() -> nn.Module:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=8,
    ).eval()


def flux() -> nn.Module:
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    ).eval()


def doubled(model: nn.Module, times: tuple[float, ...] = (900, 500), **options: Any) -> Trace:
    """Guided in one call: [unconditional, conditional] on the batch axis."""
    torch.manual_seed(1)
    text = torch.randn(2, 5, 16)
    with torch.no_grad(), capture(model, **options) as trace:
        for time in times:
            latents = torch.randn(1, 4, 8, 12)
            model(torch.cat([latents, latents]), time, text)
    return trace


def flux_call(model: nn.Module, latents: Tensor, text: Tensor, time: float) -> None:
    rows = torch.meshgrid(torch.zeros(1), torch.arange(3.0), torch.arange(5.0), indexing="ij")
    model(
        hidden_states=latents,
        encoder_hidden_states=text,
        pooled_projections=torch.zeros(1, 32),
        timestep=torch.tensor([time]),
        img_ids=torch.stack(rows, -1).reshape(-1, 3),
        txt_ids=torch.zeros(4, 3),
    )


def two_calls(model: nn.Module, times: tuple[float, ...] = (1.0, 0.5), **options: Any) -> Trace:
    torch.manual_seed(1)
    prompt, nothing = torch.randn(2, 1, 4, 32)
    with torch.no_grad(), capture(model, **options) as trace:
        latents = torch.randn(1, 15, 4)
        for time in times:
            flux_call(model, latents, prompt, time)
            flux_call(model, latents, nothing, time)
            latents += 1  # as samplers may, in place
    return trace


def test_both_branches_in_one_call() -> None:
    trace = doubled(unet(), layers=SELF)
    assert [r.timestep for r in trace.records] == [900.0] * 4 + [500.0] * 4
    assert all(r.branches == ("unconditional", "conditional") for r in trace.records)
    for place, branch in enumerate(("unconditional", "conditional")):
        part = trace.select(branch=branch, timestep=500)  # type: ignore[arg-type]
        assert len(part.records) == 4
        torch.testing.assert_close(part[0].to_dense(), trace[4].to_dense()[place : place + 1])
        assert part[0].layout == trace[4].layout == TokenLayout({"image": 96}, {"image": (8, 12)})


def test_a_branch_is_chosen_before_it_is_copied() -> None:
    model = unet()
    full, half = doubled(model, layers=SELF), doubled(model, layers=SELF, branch="conditional")
    for one, both in zip(half.records, full.records, strict=True):
        assert one.q is not None
        assert both.q is not None
        assert torch.equal(one.q, both.q[1:])
        assert one.q.untyped_storage().nbytes() == one.q.nbytes
    mean = doubled(model, layers=SELF, branch="conditional", reduce="mean", over="steps")
    expected = torch.stack([half[i].to_dense().mean(1) for i in (0, 4)]).mean(0)
    torch.testing.assert_close(mean[0].to_dense()[:, 0], expected)


def test_a_branch_is_taken_once_and_has_samples() -> None:
    model = unet()
    trace = doubled(model, layers=SELF)
    half = trace.select(branch="conditional")
    assert half.records[0].branches == ("conditional",)
    assert half.select(branch="conditional")[0].shape == half[0].shape == (1, *trace[0].shape[1:])
    with pytest.raises(NotFoundError, match=r"no unconditional branch.*conditional"):
        half.select(branch="unconditional")
    chosen = doubled(model, layers=SELF, branch="conditional")
    one = trace.select(branch="conditional", sample=0)
    for same in (half.select(sample=0), chosen, chosen.select(branch="conditional", sample=0)):
        torch.testing.assert_close(same[0].to_dense(), one[0].to_dense())
        assert same[0].layout == trace[0].layout
    with pytest.raises(NotFoundError, match="sample 1 of a batch of 1"):
        half.select(sample=1)


def test_summary_tells_the_calls_apart() -> None:
    lines = doubled(unet(), layers=SELF).summary().splitlines()
    assert lines[0].split()[-2:] == ["timestep", "branches"]
    assert lines[1].split()[-3:] == ["900", "unconditional,", "conditional"]


def test_each_branch_in_a_call_of_its_own() -> None:
    model = flux()
    trace = two_calls(model)
    assert [r.branches for r in trace.records[::2]] == [("conditional",), ("unconditional",)] * 2
    assert [r.timestep for r in trace.records[::2]] == [1.0, 1.0, 0.5, 0.5]
    part = trace.select(branch="unconditional", timestep=0.5)
    assert [r.step for r in part.records] == [3, 3]
    assert part[0].layout == TokenLayout({"text": 4, "image": 15}, {"image": (3, 5)})
    for branch, steps in (("conditional", {0, 2}), ("unconditional", {1, 3})):
        assert {r.step for r in two_calls(model, branch=branch).records} == steps


def test_class_labels_come_first() -> None:
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8, patch_size=2, num_embeds_ada_norm=10
    ).eval()
    latents = torch.randn(2, 4, 8, 8)
    with torch.no_grad(), capture(model) as trace:
        model(torch.cat([latents, latents]), torch.full((4,), 7), class_labels=torch.tensor([3, 9, 10, 10]))
    assert trace.records[0].branches == ("conditional", "unconditional")
    assert trace.records[0].timestep == 7


def test_what_is_no_guidance() -> None:
    model = unet()
    text = torch.randn(1, 5, 16).expand(2, -1, -1)
    latents = torch.randn(1, 4, 8, 8)
    calls = [
        (torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16)),  # two pictures
        (torch.cat([latents, latents]), text),  # the same twice
        (torch.cat([latents] * 3), torch.randn(3, 5, 16)),  # three branches
    ]
    for sample, condition in calls:
        with torch.no_grad(), capture(model, layers=SELF) as trace:
            model(sample, 900, condition)
        assert trace.records[0].branches == ()
    with torch.no_grad(), capture(model, layers=SELF) as trace:  # the same call again
        for _ in range(2):
            model(latents, 900, text[:1])
    assert {r.branches for r in trace.records} == {()}
    with torch.no_grad(), capture(model, layers=SELF) as trace:  # timesteps that differ have no number
        model(torch.randn(2, 4, 8, 8), torch.tensor([900, 100]), text)
    assert trace.records[0].timestep is None


def test_a_classifier_of_two_equal_pictures_has_no_branches() -> None:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    model = hf.ViTModel(config).eval()
    with torch.no_grad(), capture(model) as trace:
        model(torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1))
    assert trace.records[0].branches == ()
    assert trace.records[0].timestep is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"branch": "positive"}, InputError, "branch = 'positive', expected 'conditional', 'unconditional'"),
        ({"timestep": 123}, NotFoundError, "no timestep 123 in this trace; the timesteps here are 900, 500"),
    ],
)
def test_selections_that_find_nothing(options: dict[str, Any], error: type[Exception], words: str) -> None:
    trace = doubled(unet(), layers=SELF)
    with pytest.raises(error, match=words):
        trace.select(**options)


def test_a_branch_that_never_ran() -> None:
    model = unet()
    with torch.no_grad(), capture(model, layers=SELF) as trace:
        model(torch.randn(1, 4, 8, 8), 900, torch.randn(1, 5, 16))
    with pytest.raises(NotFoundError, match=r"no conditional branch.*none"):
        trace.select(branch="conditional")

    def run() -> None:
        with torch.no_grad(), capture(model, layers=SELF, branch="unconditional"):
            model(torch.randn(1, 4, 8, 8), 900, torch.randn(1, 5, 16))

    with pytest.raises(CaptureError, match="branch="):
        run()
