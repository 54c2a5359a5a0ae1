"""What guidance refuses, and what it warns of: each message has the cure."""

from __future__ import annotations

from typing import Any

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from tests.diffusion import pipelines  # noqa: E402
from tokenrank.errors import CaptureError, InputError, NotFoundError, TokenRankWarning  # noqa: E402
from tokenrank.tasks import guide  # noqa: E402
from tokenrank.tasks.guidance.settings import Settings  # noqa: E402

from .classic import denoiser_of, pipe_of, run, stable_diffusion  # noqa: E402


def begin(pipe: Any, *args: Any, **how: Any) -> None:
    with guide(pipe, *args, **how):
        pass


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"kind": "blurr"}, "nearest: 'blur'"),
        ({"mask": "tokenrnk"}, "nearest: 'tokenrank'"),
        ({"mask": "word:"}, "there is no such mask"),
        ({"mask": "random:all"}, "there is no such mask"),
        ({"scale": "much"}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"start": 0.5, "stop": 0.5}, "start"),
        ({"stop": 1.5}, "stop"),
        ({"layers": 0}, "layers = 0, expected names or globs of attention layers such as '"),
        ({"kernel": 8}, "odd number"),
        ({"sigma": 0.0}, "above 0"),
        ({"base": "prompt"}, "'conditional', 'unconditional'"),
        ({"heads": [0]}, "perturbs no heads"),
        ({"kind": "identity", "heads": 1.5}, "share of them above 0 and below 1"),
        ({"kind": "identity", "heads": []}, "expected numbers of heads"),
        ({"kind": "identity", "heads": "first"}, "expected numbers of heads"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing(how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        begin(pipe_of("SD1.5"), **how)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("SD1.5", "mid_block.attentions.0.transformer_blocks.0.attn7", "nearest: 'mid_block"),
        ("SD1.5", "*.attn2", "attends from the picture to the text"),
        ("FLUX.1", ["transformer_blocks.0.attn", "blocks.9"], "'blocks.9' is no attention layer"),
    ],
)
def test_layers_that_are_not_there(name: str, layers: Any, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        begin(pipe_of(name), layers=layers)


def test_no_layers_and_no_names() -> None:
    with pytest.raises(InputError, match="one name of an attention layer at least"):
        begin(pipe_of("SD1.5"), layers=[])
    with pytest.raises(InputError, match="expected names of attention layers"):
        begin(pipe_of("SD1.5"), layers=[3])


def test_one_layer_is_not_also_another_one_with_its_number_in_front() -> None:
    """``blocks.1`` is not ``blocks.10``."""
    pipe = stable_diffusion()
    pipe.unet = pipelines.made(
        "UNet2DConditionModel", block_out_channels=(16, 32), layers_per_block=1, sample_size=8, in_channels=4,
        out_channels=4, cross_attention_dim=16, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 11),
    )  # fmt: skip
    with guide(pipe, layers="mid_block.attentions.0.transformer_blocks.1") as guidance:
        pipe("a cat", height=16, width=24, num_inference_steps=1, output_type="latent")
    assert guidance.layers == ("mid_block.attentions.0.transformer_blocks.1.attn1",)


def test_layers_of_several_grids_make_no_mask() -> None:
    with pytest.raises(InputError, match=r"8 × 12.*one grid"), guide(pipe_of("SD1.5"), layers="*.attn1"):
        run("SD1.5")


def test_heads_that_a_layer_does_not_have() -> None:
    with pytest.raises(InputError, match="the layer has 4 heads"), guide(pipe_of("SD3"), "identity", heads=[4]):
        run("SD3")


def test_videos() -> None:
    with pytest.raises(InputError, match=r"WanPipeline makes videos.*supported are"):
        begin(pipelines.wan())


def test_things_that_are_no_pipelines() -> None:
    for thing in (denoiser_of(pipe_of("SD1.5")), object(), None):
        with pytest.raises(InputError, match="supported"):
            begin(thing)


def test_a_pipeline_that_was_not_called() -> None:
    with pytest.raises(CaptureError, match="was not called inside of the block"):
        begin(pipe_of("FLUX.1"))


def test_a_denoiser_outside_of_its_pipeline() -> None:
    pipe = pipe_of("SD1.5")
    with pytest.raises(CaptureError, match="ran outside of its pipeline"), guide(pipe):
        pipe.unet(torch.zeros(1, 4, 8, 8), 5, encoder_hidden_states=torch.zeros(1, 8, 16))


def test_a_word_that_is_not_in_the_prompt() -> None:
    with pytest.raises(NotFoundError, match="dog"), guide(pipe_of("SD1.5"), mask="word:dog"):
        run("SD1.5")


def test_a_word_of_embeddings() -> None:
    with pytest.raises(InputError, match="needs the words of the prompt"), guide(pipe_of("FLUX.1"), mask="word:cat"):
        run("FLUX.1")


def test_attention_that_kernels_hide() -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName

    pipe = pipe_of("FLUX.1")
    processor: Any = denoiser_of(pipe).get_submodule("transformer_blocks.0.attn").processor
    before = processor._attention_backend
    processor._attention_backend = AttentionBackendName.FLASH
    try:
        with pytest.raises(InputError, match=r"pipe\.transformer\.set_attention_backend\('native'\)"):
            begin(pipe)
    finally:
        processor._attention_backend = before


def test_one_guidance_at_a_time() -> None:
    with guide(pipe_of("SD3")):
        with pytest.raises(InputError, match="guided already"):
            begin(pipe_of("SD3"), "identity")
        run("SD3")


def test_a_cache_between_steps() -> None:
    pipe = pipelines.flux()
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(InputError, match=r"disable_cache\(\)"):
        begin(pipe)


def test_a_compiled_pipeline_runs_uncompiled() -> None:
    pipe = stable_diffusion()
    given = {"prompt": "a cat", "height": 16, "width": 24, "num_inference_steps": 2, "output_type": "latent"}
    with guide(pipe):
        expected = pipe(**given, generator=torch.Generator().manual_seed(1)).images
    pipe.unet = torch.compile(pipe.unet)
    with pytest.warns(TokenRankWarning, match="runs uncompiled"), guide(pipe):
        made = pipe(**given, generator=torch.Generator().manual_seed(1)).images
    assert torch.equal(made, expected)


def test_guidance_rescale_is_said_to_be_inexact() -> None:
    with pytest.warns(TokenRankWarning, match=r"inexact with guidance_rescale = 0\.7"), guide(pipe_of("SD1.5")):
        run("SD1.5", guidance_rescale=0.7)


def test_a_run_in_which_no_step_is_guided() -> None:
    with pytest.warns(TokenRankWarning, match="no step was guided"), guide(pipe_of("SD1.5"), stop=0.1) as guidance:
        made = run("SD1.5")
    assert guidance.masks == []
    assert torch.equal(made, run("SD1.5"))


def test_a_part_of_the_run() -> None:
    with guide(pipe_of("SD1.5"), start=0.4) as guidance:
        run("SD1.5", num_inference_steps=10)
    assert guidance.passes == len(guidance.masks) == 6


def test_another_guidance_in_the_pipeline() -> None:
    pipe = stable_diffusion()  # of its own: that pipeline leaves its processors behind where something raises
    other = diffusers.StableDiffusionPAGPipeline(
        **pipe.components, requires_safety_checker=False, pag_applied_layers=["mid"]
    )
    other.set_progress_bar_config(disable=True)
    with pytest.raises(InputError, match="3 samples for 1 latents"), guide(other):
        other("a cat", height=16, width=24, num_inference_steps=1, output_type="latent")


def test_settings_are_those_of_both_forms() -> None:
    assert Settings().guided_branch == "unconditional"
    assert Settings("identity").guided_branch == "conditional"
    assert Settings("smooth").kernel_for_queries == 1
    assert Settings("smooth", sigma=2.0).kernel_for_queries == 13
    assert Settings(mask="word: school bus").word == "school bus"
    assert [k for k in range(10) if Settings(start=0.2, stop=0.5).within(k, 10)] == [2, 3, 4]
