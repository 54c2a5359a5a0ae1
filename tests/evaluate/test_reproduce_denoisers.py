"""The experiments on pipelines, from files in the real formats to the outcome, on tiny pipelines."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import tokenrank as tr

pytest.importorskip("diffusers")

from tests.evaluate.denoiser_cases import IMAGES, SIZE, save_data, save_flux, save_stable_diffusion
from tests.evaluate.protocol_cases import picture
from tests.evaluate.quality.test_inception import weights  # noqa: F401
from tests.evaluate.quality.test_measure import pictures
from tokenrank.errors import InputError, MissingExtraError, NotFoundError
from tokenrank.evaluate.datasets import Sample
from tokenrank.evaluate.protocols import find, parse_concepts
from tokenrank.evaluate.protocols.diffseg import observe_clean
from tokenrank.evaluate.quality.inception import FILE
from tokenrank.evaluate.reproduce import EXPERIMENTS, Figure, reproduce

READING = [e for e in EXPERIMENTS.values() if e.pipeline and e.generation is None]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    stable = save_stable_diffusion(root / "stable", root)
    return {
        "black-forest-labs/FLUX.1-schnell": save_flux(root / "flux"),
        "CompVis/stable-diffusion-v1-4": stable,
        "stable-diffusion-v1-5/stable-diffusion-v1-5": stable,
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_data(tmp_path_factory.mktemp("denoiser-data"))


def small(name: str):
    """An experiment at the size of the tiny pipelines."""
    experiment = EXPERIMENTS[name]
    size = {"size": SIZE, "pixels": SIZE} if experiment.protocol == "diffseg" else {"size": SIZE // 2, "samples": 1}
    return replace(experiment, options={**experiment.options, **size})


@pytest.mark.parametrize("name", [experiment.name for experiment in READING])
def test_every_experiment_runs_from_files_to_outcome(
    name: str, folders: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOKENRANK_DATA", str(data))
    experiment = small(name)
    outcome = reproduce(experiment, model=folders[experiment.models[0]], out=tmp_path / "out", resamples=10)
    assert outcome.failures == 0, outcome.folders
    assert outcome.images == (IMAGES,)
    assert [judged.check for judged in outcome.judged] == list(experiment.expected)
    for judged in outcome.judged:
        assert np.isfinite(judged.measured)
        assert judged.verdict == ("not judged" if isinstance(judged.check, Figure) else "undecided")
    names = [method.name for method in find(experiment.protocol, **experiment.options).methods(experiment.methods)]
    (figures,) = outcome.measured.values()
    assert list(figures) == names
    if experiment.protocol != "diffseg":  # where all is one segment: maps of random weights are nearer than its τ
        assert len({json.dumps(line) for line in figures.values()}) > 1
    assert any(path.name == "report.html" for path in outcome.files)


def test_diffseg_gives_the_picture_without_noise_and_tells_step_300(folders: dict[str, Path]):
    model = tr.load(folders["CompVis/stable-diffusion-v1-4"])
    image = picture(SIZE, SIZE)
    seen = []
    hook = model.module.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    observation = observe_clean(model, image, 300, SIZE)
    hook.remove()
    told = seen[-1][1]
    pipe = model.pipeline
    with torch.no_grad():
        latents = (
            pipe.vae.encode(pipe.image_processor.preprocess(image)).latent_dist.mode() * pipe.vae.config.scaling_factor
        )
    torch.testing.assert_close(told["sample"], latents)
    assert float(told["timestep"]) == 300
    found = tr.tasks.cluster(observation, layer="*", heads="uniform", k=4)
    assert 1 < len(found.names) <= 5
    protocol = find("diffseg", size=SIZE, pixels=SIZE, classes=2)
    labels = np.zeros((SIZE, SIZE), dtype=np.int64)
    labels[:, 40:] = 1
    rows = protocol.rows(model, Sample("one", image, labels=labels), protocol.methods("merge:layer=*:k=4,blocks:k=4"))
    assert [row["segments"] > 1 for row in rows] == [True, True]
    with pytest.raises(InputError, match="is no denoiser"):
        protocol.rows(tr.load("bundled"), Sample("one", image, labels=labels), protocol.methods("blocks:k=4"))


def save_inception(folder: Path, file: Path, real: bool) -> Path:
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(file.read_bytes())
    if real:
        for place, pixels in enumerate(pictures(4, 3)):
            (folder / "reference").mkdir(exist_ok=True)
            PIL.Image.fromarray(pixels).save(folder / f"reference/{place}.png")
    return folder


def sag():
    experiment = EXPERIMENTS["sag/sd15"]
    assert experiment.generation is not None
    options = {**experiment.generation.options, "num_inference_steps": 2, "height": 16, "width": 24}
    return replace(experiment, generation=replace(experiment.generation, options=options, splits=2))


@pytest.mark.parametrize("real", [True, False])
def test_guidance_is_measured_on_the_same_seeds(
    real: bool,
    folders: dict[str, Path],
    weights: Path,  # noqa: F811
    tmp_path: Path,
):
    experiment = sag()
    folder = save_inception(tmp_path / "inception", weights, real)
    options = {"data": folder, "model": folders[experiment.models[0]], "out": tmp_path / "out", "batch": 3}
    outcome = reproduce(experiment, limit=4, **options)
    (figures,) = outcome.measured.values()
    assert list(figures) == ["none", "colsum", "tokenrank", "random"]
    for line in figures.values():
        assert line["inception_score"] >= 1 - 1e-9
        assert ("fid" in line) == real
    assert [judged.verdict for judged in outcome.judged] == ["not judged"] * 2
    files = {arm.name: sorted(arm.glob("*.png")) for arm in outcome.folders}
    assert {name: len(found) for name, found in files.items()} == dict.fromkeys(
        ("none", "colsum", "tokenrank", "random"), 4
    )
    assert (np.asarray(PIL.Image.open(files["none"][0])) != np.asarray(PIL.Image.open(files["colsum"][0]))).any()

    if real:  # what follows costs four square roots of 2,048 × 2,048 each time, and is the same with them
        return
    before = {file: file.stat().st_mtime_ns for found in files.values() for file in found}
    files["none"][1].unlink()
    again = reproduce(experiment, limit=4, **options)
    assert again.measured == outcome.measured
    after = {file: file.stat().st_mtime_ns for found in files.values() for file in found}
    assert {file for file in before if before[file] != after[file]} == {files["none"][1]}
    with pytest.raises(InputError, match="holds 2 pictures of other seeds"):
        reproduce(experiment, limit=2, **options)
    whole = reproduce(replace(experiment, images=4), **options)
    assert [judged.verdict for judged in whole.judged] == ["differs"] * 2


def test_what_is_missing_is_said_before_any_work(
    tmp_path: Path, folders: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TOKENRANK_DATA", raising=False)
    for experiment in EXPERIMENTS.values():
        if not experiment.pipeline:
            continue
        with pytest.raises(NotFoundError) as error:
            reproduce(experiment, out=tmp_path / "out")
        absent = f"no weights of {experiment.models[0]}"
        for part in ("TOKENRANK_DATA is not set", absent, "model_index.json", "--model"):
            assert part in str(error.value)
    with pytest.raises(NotFoundError, match=f"lacks {FILE}"):
        reproduce("sag/sd15", data=data, model=folders["CompVis/stable-diffusion-v1-4"], out=tmp_path / "out")
    (tmp_path / "gtsegs_ijcv.mat").write_bytes((data / "imagenet-segmentation/gtsegs_ijcv.mat").read_bytes())
    flux = folders["black-forest-labs/FLUX.1-schnell"]
    with pytest.raises(InputError, match=r"lacks 'words\.txt'"):
        reproduce(small("imagenet-segmentation/flux-schnell"), data=tmp_path, model=flux, out=tmp_path / "out")
    with pytest.raises(InputError, match="'bundled' is no pipeline of diffusers"):
        reproduce(small("voc-single/flux-schnell"), data=data / "VOCdevkit", model="bundled", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_said_before_any_work(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    (tmp_path / "inception").mkdir()
    (tmp_path / "inception" / FILE).write_bytes(b"anything")
    stable = folders["CompVis/stable-diffusion-v1-4"]
    with pytest.raises(MissingExtraError, match=r"tokenrank\[quality\]"):
        reproduce(sag(), data=tmp_path / "inception", model=stable, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_methods_of_concept_maps_are_parsed():
    first, second = parse_concepts("maps:refine=none, maps:n=2:layers=1+2:outside=yes")
    assert (first.name, first.outside) == ("maps:refine=none", False)
    assert second.outside is True
    assert parse_concepts("concept_attention:outside=all")[0].outside == "all"
    for text, words in (
        ("map", "no method 'map'"),
        ("maps:bounces=2", "no option 'bounces=2'"),
        ("maps:outside=some", "expected yes, no or all"),
        ("maps:outside=2", "expected yes, no or all"),
        ("", "expected one at least"),
        ("maps,maps", "none twice"),
    ):
        with pytest.raises((InputError, NotFoundError), match=words):
            parse_concepts(text)
    with pytest.raises(InputError, match="knows no words"):
        find("concept-segmentation").check_methods(find("imagenet-segmentation").methods("random"))
    with pytest.raises(InputError, match=r"expected one .* in the place of the word"):
        find("concept-segmentation", prompt="a dog")
