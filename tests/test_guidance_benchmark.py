"""benchmarks/guidance.py from a small pipeline and small data to the tables and the figure."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("scipy")

from tests.training.test_text_to_image import data  # noqa: F401

SEEDS, STEPS = 6, 2


@pytest.fixture(scope="module")
def benchmark():
    root = str(Path(__file__).parent.parent)
    sys.path.insert(0, root)
    yield importlib.import_module("benchmarks.guidance")
    sys.path.remove(root)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:  # noqa: F811
    """The pipeline as it is exported, untrained."""
    import diffusers

    from training.text_to_image.autoencoder import make_autoencoder
    from training.text_to_image.export import silent_encoder
    from training.text_to_image.network import Painter
    from training.text_to_image.train import CLASSES
    from training.text_to_image.words import class_names, make_tokenizer

    names = [class_names(data / "classes.txt")[number] for number in CLASSES]
    tokenizer = make_tokenizer(names)
    torch.manual_seed(0)
    painter = Painter(len(tokenizer))
    for weight in painter.parameters():  # what begins as nothing would make all arms alike
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("model")
    diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0), vae=make_autoencoder(),
        text_encoder=silent_encoder(len(tokenizer)), tokenizer=tokenizer, text_encoder_2=painter.text_encoder,
        tokenizer_2=make_tokenizer(names), transformer=painter.denoiser,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model, ViTImageProcessor

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=112)
    Dinov2Model(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 112, "width": 112}).save_pretrained(folder)
    return folder


def run(benchmark, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["guidance", *map(str, arguments)])
    benchmark.main()


@pytest.fixture(scope="module")
def made(benchmark, model: Path, data: Path, dino: Path, tmp_path_factory: pytest.TempPathFactory):  # noqa: F811
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        run(
            benchmark, patch, model, data, work, "--dino", dino, "--seeds", SEEDS, "--steps", STEPS, "--processes", 1,
            "--resamples", 10, "--out", work / "guidance.json",
        )  # fmt: skip
    return work


def test_all_arms_are_measured_at_every_strength(made: Path) -> None:
    found = json.loads((made / "guidance.json").read_text())
    arms = ["none", "colsum", "tokenrank", "bounce", "all", "random"]
    assert [(row["cfg"], row["arm"]) for row in found["rows"]] == [(cfg, arm) for cfg in (3, 1) for arm in arms]
    assert "--dino DINO" in found["command"]
    assert "MODEL DATA WORK" in found["command"]
    for row in found["rows"]:
        assert row["pictures"] == SEEDS
        for name in ("fd_dinov2-small", "kid_bundled_unseen", "probability", "recall_bundled", "score_bundled"):
            value, low, high = row[name]
            assert np.isfinite([value, low, high]).all()
            assert low <= value <= high
    shares = {row["arm"]: row.get("share") for row in found["rows"] if row["cfg"] == 3}
    assert shares["none"] is None
    assert shares["all"] == 1
    assert 0 < shares["tokenrank"] < 1
    pairs = {(pair["cfg"], pair["first"], pair["second"], pair["figure"]): pair for pair in found["comparisons"]}
    pair = pairs[3, "tokenrank", "random", "fd_bundled"]
    rows = {row["arm"]: row["fd_bundled"][0] for row in found["rows"] if row["cfg"] == 3}
    assert pair["difference"] == pytest.approx(rows["tokenrank"] - rows["random"])
    assert pair["p_holm"] >= pair["p"]


def test_a_random_mask_covers_as_much_of_every_picture_at_the_first_step(made: Path) -> None:
    """Later steps see other pictures, so that TokenRank's masks are others, too."""
    (folder,) = (path for path in made.iterdir() if path.is_dir() and path.name != "features")
    stored = {arm: np.load(folder / f"{arm}-3-000000-{SEEDS}.npz") for arm in ("tokenrank", "random", "none", "all")}
    np.testing.assert_array_equal(stored["tokenrank"]["shares"][0], stored["random"]["shares"][0])
    assert stored["tokenrank"]["shares"].shape == (STEPS, SEEDS)
    assert (stored["tokenrank"]["pictures"] != stored["random"]["pictures"]).any()
    assert (stored["all"]["pictures"] != stored["none"]["pictures"]).any()


def test_a_seed_makes_the_same_picture_in_any_batch(benchmark, model: Path, data: Path) -> None:  # noqa: F811
    from benchmarks.guided.sampling import Part, Plan, pipeline, sample

    plan, pipe = Plan(model, benchmark.prompts(data), steps=2), pipeline(model)
    several, _ = sample(pipe, plan, Part("colsum", 3.0, 4, 3))
    alone, _ = sample(pipe, plan, Part("colsum", 3.0, 5, 1))
    assert np.abs(several[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_a_second_start_makes_nothing_anew(
    benchmark,
    made: Path,
    model: Path,
    data: Path,  # noqa: F811
    dino: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.suffix in (".npz", ".safetensors")}
    first = json.loads((made / "guidance.json").read_text())
    run(
        benchmark, monkeypatch, model, data, made, "--dino", dino, "--seeds", SEEDS, "--steps", STEPS, "--processes", 1,
        "--resamples", 10, "--out", made / "again.json",
    )  # fmt: skip
    again = json.loads((made / "again.json").read_text())
    assert again["rows"] == first["rows"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_tables_and_figure_are_made_of_the_result(benchmark, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = importlib.import_module("benchmarks.guidance_page")
    filled = sys.modules["filled"]
    monkeypatch.setattr(filled, "RESULTS", made)
    found = json.loads((made / "guidance.json").read_text())
    for name, make in page.TABLES.items():
        text = make()
        assert text, name
        assert "nan" not in text
    lines = page.arms().splitlines()
    row = next(line for line in lines if "TokenRank |" in line)
    value = next(r for r in found["rows"] if r["arm"] == "tokenrank")["fd_bundled"][0]
    assert f"{value:.1f}" in row
    marks = {name for name, _ in filled.MARKS.findall((filled.DOCS / "diffusion.md").read_text(encoding="utf-8"))}
    assert set(page.TABLES) <= marks

    figure = importlib.import_module("benchmarks.guidance_figure")
    (folder,) = (path for path in made.iterdir() if path.is_dir() and path.name != "features")
    sheet = figure.draw(folder, 3.0, range(3), ["a dog"])
    assert len(sheet.figure.axes) == 3 * 6
    with pytest.raises(FileNotFoundError, match="seed 6"):
        figure.stored(folder, "none", 3.0, range(5, 8))
