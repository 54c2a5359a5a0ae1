"""The small FLUX: its captions, its mosaics, its recipe end to end, and the folder that is committed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
diffusers = pytest.importorskip("diffusers")

from training.text_to_image.autoencoder import decibels, make_autoencoder  # noqa: E402
from training.text_to_image.export import make_pipeline  # noqa: E402
from training.text_to_image.network import Painter, pack, places, unpack  # noqa: E402
from training.text_to_image.pictures import draw, load_classes, mosaic, single, to_latents  # noqa: E402
from training.text_to_image.train import CLASSES, Recipe, Run, train  # noqa: E402
from training.text_to_image.validate import losses, painter_of  # noqa: E402
from training.text_to_image.words import LENGTH, Captions, class_names, make_tokenizer  # noqa: E402

MODEL = Path(__file__).parents[2] / "training" / "text_to_image" / "model"
FEW = Recipe(minutes=5 / 60, batch=4)


class Ticks:
    """A clock that moves on by one second whenever it is looked at, and may stop the run at one."""

    def __init__(self, until: float = float("inf")) -> None:
        self.now, self.until = 0.0, until

    def __call__(self) -> float:
        self.now += 1
        if self.now > self.until:
            raise KeyboardInterrupt
        return self.now


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    lines = [f"{number}\tn{number:08}\tthing-{number} of wood, big {number}" for number in range(200)]
    (folder / "classes.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, labels in (("train-0", [*CLASSES, 0, 1]), ("val", [*CLASSES])):
        blobs = []
        for pixels in random.integers(0, 256, (len(labels), 64, 64, 3), np.uint8):
            held = io.BytesIO()
            Image.fromarray(pixels).save(held, "JPEG", quality=95)
            blobs.append(held.getvalue())
        pa.parquet.write_table(pa.table({"image": blobs, "label": labels}), folder / f"{name}.parquet")
    return folder


# ---- captions


def test_captions_are_what_the_tokenizer_makes_of_the_words(data: Path) -> None:
    names = [class_names(data / "classes.txt")[number] for number in CLASSES[:3]]
    tokenizer = make_tokenizer(names)
    captions = Captions(names, tokenizer.get_vocab())
    torch.manual_seed(0)
    both = torch.tensor([True, False] * 20)
    ids = captions(torch.zeros(40, dtype=torch.long), torch.full((40,), 2), both)
    assert ids.shape == (40, LENGTH)
    texts = set()
    for row, two in zip(ids, both, strict=True):
        text = tokenizer.decode(row, skip_special_tokens=True)
        texts.add(text)
        assert tokenizer([text], padding="max_length", max_length=LENGTH).input_ids[0] == row.tolist()
        assert (" and " in text) == bool(two)
    one, other = names[0][0], names[2][0]
    assert {f"a {one} and a {other}", f"a {other} and a {one}", f"a {one}"} <= texts  # both orders


def test_emptied_captions_are_an_end_and_padding(data: Path) -> None:
    names = class_names(data / "classes.txt")[:2]
    tokenizer = make_tokenizer(names)
    none = torch.zeros(5, dtype=torch.long)
    ids = Captions(names, tokenizer.get_vocab())(none, none, torch.zeros(5, dtype=torch.bool), drop=1.0)
    assert ids.tolist() == tokenizer([""] * 5, padding="max_length", max_length=LENGTH).input_ids


# ---- mosaics


@pytest.mark.parametrize("kind", range(6))
def test_the_truth_of_a_mosaic_is_where_the_second_picture_is(kind: int) -> None:
    white, black = torch.ones(2, 3, 64, 64), -torch.ones(2, 3, 64, 64)
    made, inside = mosaic(white, black, torch.full((2,), kind))
    assert made.shape == (2, 3, 32, 32)
    assert torch.equal(made[:, 0] < 0, inside)
    assert float(inside.float().mean()) == (0.5 if kind < 2 else 0.25)


def test_pictures_in_mosaics_are_scaled_and_not_cut() -> None:
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    made, _ = mosaic(ramp, ramp.mT, torch.tensor([0]))
    assert torch.allclose(made[0, 0, 5, :16], torch.linspace(-1, 1, 64).reshape(16, 4).mean(1))
    assert torch.allclose(made[0, 0, :, 20], torch.linspace(-1, 1, 64).reshape(32, 2).mean(1))


def test_drawn_mosaics_have_two_classes(data: Path) -> None:
    pictures, labels = load_classes(data, "train", CLASSES)
    assert labels.tolist() == list(range(len(CLASSES)))  # classes 0 and 1 are none of them
    torch.manual_seed(0)
    mixed, first, second, both = draw(pictures, labels, 64, 1.0)
    assert mixed.shape == (64, 3, 32, 32)
    assert bool((first != second)[both].all())
    assert 40 < int(both.sum()) <= 64


# ---- the network and its pipeline


def test_packing_is_that_of_the_pipeline() -> None:
    latents = torch.randn(2, 12, 16, 24)
    theirs = diffusers.FluxPipeline._pack_latents(latents, 2, 12, 16, 24)
    assert torch.equal(pack(latents), theirs)
    assert torch.equal(unpack(theirs, 8, 12), latents)
    ids = diffusers.FluxPipeline._prepare_latent_image_ids(1, 8, 12, torch.device("cpu"), torch.float32)
    assert torch.equal(places(8, 12), ids)


def test_the_encoder_moves_pixels_and_nothing_else() -> None:
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        latents = make_autoencoder().encode(pictures).latents
    assert torch.allclose(latents, to_latents(pictures), atol=1e-6)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole", FEW, Ticks())
    assert whole.steps == 5
    halved = Run(data, FEW)
    for _ in range(2):
        halved.step()
        halved.elapsed += 1
    (tmp_path / "halved").mkdir()
    halved.save(tmp_path / "halved" / "checkpoint.pt")
    again = train(data, tmp_path / "halved", FEW, Ticks())
    assert again.steps == 5
    for one, other in zip(whole.painter.parameters(), again.painter.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_was_trained_is_what_the_pipeline_runs(data: Path, tmp_path: Path) -> None:
    run = train(data, tmp_path, FEW, Ticks())
    make_autoencoder().save_pretrained(tmp_path / "autoencoder")
    pipe, facts = make_pipeline(data, tmp_path, tmp_path / "autoencoder")
    assert facts["steps"] == 5
    pipe.save_pretrained(tmp_path / "pipe")
    pipe = diffusers.FluxPipeline.from_pretrained(tmp_path / "pipe")
    pipe.set_progress_bar_config(disable=True)
    name = class_names(data / "classes.txt")[CLASSES[0]][0]
    words, pooled, _ = pipe.encode_prompt(f"a {name}", None, max_sequence_length=LENGTH)
    assert not pooled.any()
    ids = pipe.tokenizer_2([f"a {name}"], padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    latents = torch.randn(1, 12, 16, 16)
    with torch.no_grad():
        ours = run.average(latents, torch.tensor([0.5]), ids)
        theirs = pipe.transformer(
            hidden_states=pack(latents), encoder_hidden_states=words, pooled_projections=pooled,
            timestep=torch.tensor([0.5]), img_ids=places(8, 8), txt_ids=torch.zeros(LENGTH, 3),
        ).sample  # fmt: skip
    assert torch.allclose(unpack(theirs, 8, 8), ours, atol=1e-5)
    assert set(losses(pipe, data, 1)) == {f"{k}, {w} words" for k in ("single", "mosaic") for w in ("with", "without")}


# ---- what is committed


@pytest.fixture(scope="module")
def kept() -> Any:
    pipe = diffusers.FluxPipeline.from_pretrained(MODEL)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_committed_folder_is_small_and_half() -> None:
    assert sum(file.stat().st_size for file in MODEL.rglob("*")) < 12 * 10**6
    from safetensors.torch import load_file

    for part in ("transformer", "vae"):
        weights = load_file(MODEL / part / "diffusion_pytorch_model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_the_committed_network_draws_with_words(kept: Any) -> None:
    drawn = kept(
        prompt="a lemon and a school bus", negative_prompt="", true_cfg_scale=3.0, height=32, width=48,
        num_inference_steps=2, max_sequence_length=LENGTH, output_type="pt",
    ).images  # fmt: skip
    assert drawn.shape == (1, 3, 32, 48)
    assert bool(drawn.isfinite().all())


def test_the_committed_decoder_undoes_the_encoder() -> None:
    vae = diffusers.AutoencoderTiny.from_pretrained(MODEL / "vae")
    photograph = Image.open(Path(__file__).parents[2] / "src" / "tokenrank" / "samples" / "chelsea.jpg")
    pixels = torch.from_numpy(np.asarray(photograph.convert("RGB").resize((64, 64)), np.float32) / 127.5 - 1)
    picture = single(pixels.permute(2, 0, 1)[None])
    assert torch.allclose(vae.encode(picture).latents, to_latents(picture), atol=2e-3)  # half precision
    assert decibels(vae, picture) > 25


def test_the_committed_weights_fit_the_recipe(kept: Any) -> None:
    assert isinstance(painter_of(kept), Painter)
