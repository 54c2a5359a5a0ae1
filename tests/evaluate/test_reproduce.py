from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.evaluate.reproduce_cases import IMAGES, save_data, save_models, weights
from tokenrank.errors import InputError, NotFoundError
from tokenrank.evaluate.datasets.opening import DATASETS
from tokenrank.evaluate.protocols import find
from tokenrank.evaluate.reproduce import EXPERIMENTS, Experiment, Figure, Gain, Order, reproduce
from tokenrank.evaluate.reproduce.outcome import judge
from tokenrank.progress import listening


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_data(tmp_path_factory.mktemp("data"))


READING = [experiment for experiment in EXPERIMENTS.values() if not experiment.pipeline]
"""Those of pipelines are in test_reproduce_denoisers."""


def models_in(check: Figure | Order | Gain) -> tuple[int, ...]:
    return (check.more, check.less) if isinstance(check, Gain) else (check.model,)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_every_experiment_is_consistent(experiment: Experiment):
    if experiment.generation is not None:
        names = list(experiment.generation.arms)
        assert names == experiment.methods.split(",")
    else:
        protocol = find(experiment.protocol, **experiment.options)
        names = [method.name for method in protocol.methods(experiment.methods)]
        assert experiment.dataset in DATASETS
    assert experiment.expected
    assert any(mark in experiment.source for mark in ("[V]", "[S]", "[R]"))
    assert experiment.command == f"tokenrank reproduce {experiment.name} --data DIR"
    for check in experiment.expected:
        methods = [check.method] if isinstance(check, Figure) else [check.better, check.worse]
        assert set(methods) <= set(names)
        assert all(model < len(experiment.models) for model in models_in(check))


@pytest.mark.parametrize("experiment", READING, ids=[experiment.name for experiment in READING])
def test_every_experiment_runs_from_files_to_outcome(
    experiment: Experiment, folders: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOKENRANK_DATA", str(data))
    if experiment.protocol == "masking":  # 20 ratios of six methods would only cost time
        experiment = replace(experiment, options={**experiment.options, "ratios": (0, 0.5)})
    seen: list[tuple[str, int, int | None]] = []
    with listening(lambda *told: seen.append(told)):
        outcome = reproduce(experiment, model=weights(experiment, folders), out=tmp_path / "out", resamples=10)
    assert outcome.images == (IMAGES,) * len(experiment.models)
    assert outcome.failures == 0
    assert ("images done, 0 failed", IMAGES, IMAGES) in seen  # figures of examples are observed after it
    assert [judged.check for judged in outcome.judged] == list(experiment.expected)
    for judged in outcome.judged:
        assert np.isfinite(judged.measured)
        # three pictures are not the data set, and no Wilcoxon test of three pairs gets below 0.25
        assert judged.verdict == ("not judged" if isinstance(judged.check, Figure) else "undecided")
    assert outcome.agrees is None
    protocol = find(experiment.protocol, **experiment.options)
    for figures in outcome.measured.values():
        assert list(figures) == [method.name for method in protocol.methods(experiment.methods)]
    for path in outcome.files:
        assert path.is_file()
        assert path.is_relative_to(tmp_path / "out")
    assert [path.parent.name for path in outcome.files if path.name == "report.html"] == [
        f"run-{place + 1}" for place in range(len(experiment.models))
    ]
    stored = json.loads((tmp_path / "out/outcome.json").read_text("utf-8"))
    assert stored["measured"] == json.loads(json.dumps(outcome.measured))
    assert [check["verdict"] for check in stored["checks"]] == [judged.verdict for judged in outcome.judged]
    assert str(tmp_path) not in json.dumps(stored)


def test_figures_are_judged_on_the_whole_data_set_alone(folders: dict[str, Path], data: Path, tmp_path: Path):
    template = replace(EXPERIMENTS["bounces"], images=IMAGES, methods="tokenrank,random", expected=())
    folder, options = folders[template.models[0]], {"data": data / "ecssd", "resamples": 10}
    first = reproduce(template, model=folder, out=tmp_path, **options)
    assert first.agrees is None
    measured = first.measured[folder.name]["tokenrank"]["iou"]
    near = Figure("tokenrank", "iou", measured + 0.01, 0.02, "V")
    far = Figure("tokenrank", "iou", measured + 0.03, 0.02, "V")
    # the run goes on in its folder: nothing is computed anew, the checks are
    for expected, verdicts, agrees in (((near,), ["agrees"], True), ((near, far), ["agrees", "differs"], False)):
        outcome = reproduce(replace(template, expected=expected), model=folder, out=tmp_path, **options)
        assert [judged.verdict for judged in outcome.judged] == verdicts
        assert outcome.agrees is agrees
        assert outcome.measured == first.measured
    part = reproduce(replace(template, expected=(near, far)), model=folder, out=tmp_path / "part", limit=2, **options)
    assert [judged.verdict for judged in part.judged] == ["not judged"] * 2
    assert "2 of 3 images" in part.judged[0].words
    assert part.agrees is None


def rows(better: np.ndarray, worse: np.ndarray) -> pd.DataFrame:
    keys = [f"{i:03}" for i in range(len(better))]
    frames = [
        pd.DataFrame({"key": keys, "method": name, "iou": values})
        for name, values in (("better", better), ("worse", worse))
    ]
    return pd.concat(frames, ignore_index=True)


def test_orders_are_judged_by_a_paired_test():
    experiment = EXPERIMENTS["bounces"]
    base, noise = np.linspace(0.2, 0.8, 40), np.random.default_rng(0).normal(0, 0.01, 40)
    order = Order("better", "worse", "iou", "S")
    for gain, verdict, mirrored in ((0.02, "agrees", "differs"), (-0.02, "differs", "agrees")):
        frame = rows(base + gain + noise, base)
        found = judge(experiment, order, [frame], [], 0)
        assert found.verdict == verdict
        assert found.measured == pytest.approx(gain + noise.mean())
        assert found.paired is not None
        assert found.paired.n == 40
        assert judge(experiment, replace(order, higher=False), [frame], [], 0).verdict == mirrored
    assert judge(experiment, order, [rows(base + noise - noise.mean(), base)], [], 0).verdict == "undecided"
    assert judge(experiment, order, [rows(base, base)], [], 0).verdict == "undecided"


def test_gains_are_compared_image_by_image_between_models():
    experiment = EXPERIMENTS["structure"]
    base, noise = np.linspace(0.2, 0.8, 40), np.random.default_rng(0).normal(0, 0.01, 40)
    large, small = rows(base + 0.05 + noise, base), rows(base + 0.01, base)
    gain = Gain("better", "worse", "iou", "S")
    found = judge(experiment, gain, [large, small], [], 0)
    assert found.verdict == "agrees"
    assert found.measured == pytest.approx(0.04 + noise.mean())
    assert judge(experiment, gain, [small, large], [], 0).verdict == "differs"
    shuffled = small.sample(frac=1, random_state=0)
    assert judge(experiment, gain, [large, shuffled], [], 0).measured == pytest.approx(found.measured)


def test_all_that_is_missing_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TOKENRANK_DATA", raising=False)
    with pytest.raises(NotFoundError) as error:
        reproduce("ecssd/dino-s16", out=tmp_path / "out")
    message = str(error.value)
    for part in (
        "TOKENRANK_DATA is not set", "--data DIR", "no weights of facebook/dino-vits16", "HF_HUB_OFFLINE is set",
        "DINO ViT-S/16", "save_pretrained", "--model",
    ):  # fmt: skip
        assert part in message
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("TOKENRANK_DATA", str(tmp_path))
    with pytest.raises(NotFoundError, match="ecssd', which is not there"):
        reproduce("ecssd/dino-s16", out=tmp_path / "out")


def test_data_of_another_form_and_missing_folders_of_weights_are_named(
    folders: dict[str, Path], data: Path, tmp_path: Path
):
    with pytest.raises(InputError, match="lacks 'images'"):
        reproduce("bounces", data=data / "imagenet", model=folders["facebook/dino-vits16"], out=tmp_path / "out")
    with pytest.raises(NotFoundError, match=r"no model folder .*needed: DINO ViT-S/16"):
        reproduce("ecssd/dino-s16", data=data / "ecssd", model=tmp_path / "nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arguments_that_cannot_be_used_are_refused(folders: dict[str, Path], data: Path, tmp_path: Path):
    with pytest.raises(NotFoundError, match="no experiment 'bounce'; nearest: 'bounces'"):
        reproduce("bounce")
    with pytest.raises(InputError, match="1 models for experiment 'structure', expected 2"):
        reproduce("structure", data=data / "ecssd", model="bundled")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="'file' is a file, expected a folder"):
        reproduce("bounces", data=data / "ecssd", model="bundled", out=tmp_path / "file")
