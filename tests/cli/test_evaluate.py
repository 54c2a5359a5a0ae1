from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tokenrank.cli.protocol_options import protocol_options
from tokenrank.errors import InputError
from tokenrank.evaluate.protocols import Masking, Saliency
from tokenrank.evaluate.runner import Run
from tokenrank.evaluate.runner.folder import read_record, write_record

METHODS = "tokenrank:layer=3:heads=uniform,rollout"
FILES = {
    "means.png", "means.pdf", "differences.png", "differences.pdf", "report.md", "report.html", "results.json"
}  # fmt: skip


@pytest.fixture
def run() -> Callable[..., Ran]:
    return lambda *arguments: Ran("evaluate", *arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures with a bright square, in ECSSD's folders."""
    folder = tmp_path / "ecssd"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    noise = np.random.default_rng(0)
    for i in range(5):
        picture = noise.integers(0, 90, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), dtype=np.uint8)
        picture[8:32, 8 * i : 8 * i + 24] += 160
        mask[8:32, 8 * i : 8 * i + 24] = 255
        PIL.Image.fromarray(picture).save(folder / "images" / f"{i}.jpg")
        PIL.Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def test_a_run_a_report_and_their_paths(run: Callable[..., Ran], data: Path, tmp_path: Path):
    out = tmp_path / "run"
    command = ["saliency", "--data", data, "--methods", METHODS, "--size", 64, "--out", out, "--resamples", 50]
    ran = run(*command, "--option", "posts=component", "--batch", 2, "--seed", 3, "--reference", "rollout")
    assert ran.code == 0, ran.stderr
    assert {path.name for path in ran.paths} == FILES
    assert all(path.parent == out and path.is_file() for path in ran.paths)
    lines = ran.stderr.splitlines()
    assert lines[0] == "5 of 5 images done, 0 failed"
    assert lines[1].startswith("tokenrank:layer=3:heads=uniform: iou 0.")
    assert lines[2].startswith("rollout: iou 0.")
    stored = json.loads((out / "results.json").read_text())
    assert stored["reference"] == "rollout"
    assert stored["settings"]["protocol"]["size"] == 64
    assert stored["settings"]["protocol"]["posts"] == ["component"]
    assert stored["settings"]["seed"] == 3
    assert [entry["method"] for entry in stored["methods"]] == METHODS.split(",")

    # the same command again has nothing to do, another one is refused
    again = run(*command, "--option", "posts=component", "--seed", 3)
    assert again.code == 0, again.stderr
    assert again.stderr.splitlines()[0] == "5 of 5 images were done before"
    refused = run(*command, "--seed", 3)
    assert refused.code == 1
    assert 'protocol.posts was ["component"], now ["component", "refined"]' in refused.stderr


def test_half_and_limit_choose_images(run: Callable[..., Ran], data: Path, tmp_path: Path):
    out = tmp_path / "run"
    ran = run(
        "saliency", "--data", data, "--methods", "rollout", "--size", 64, "--out", out,
        "--half", 1, "--limit", 1, "--resamples", 10,
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    assert Run(out).settings["images"]["number"] == 1
    assert set(Run(out).keys) < {"1", "3"}


def test_images_that_fail_give_code_3_and_may_be_tried_again(run: Callable[..., Ran], data: Path, tmp_path: Path):
    whole = (data / "images" / "3.jpg").read_bytes()
    (data / "images" / "3.jpg").write_bytes(whole[:400])
    command = ["saliency", "--data", data, "--methods", METHODS, "--size", 64, "--out", tmp_path / "run"]
    ran = run(*command, "--resamples", 10)
    assert ran.code == 3
    assert {path.name for path in ran.paths} == FILES
    assert "error: 1 of 5 images failed, 3 with InputError: " in ran.stderr
    assert "--retry runs them again" in ran.stderr
    text = (tmp_path / "run" / "report.md").read_text()
    assert "4 of 5 images done, 1 failed" in text
    assert str(tmp_path) not in text
    assert run(*command, "--resamples", 10).code == 3
    (data / "images" / "3.jpg").write_bytes(whole)
    mended = run(*command, "--resamples", 10, "--retry")
    assert mended.code == 0, mended.stderr


@pytest.mark.parametrize(
    ("changes", "words", "code"),
    [
        (["salience"], "protocol = 'salience'; nearest: 'saliency'; all: ", 2),
        (["saliency", "--option", "nativ=true"], "has no option 'nativ'; nearest: 'native'", 2),
        (["saliency", "--option", "native"], "option 'native' is not NAME=VALUE", 2),
        (["saliency", "--option", "native=7"], "option native = '7', expected something like False", 2),
        (["saliency", "--reference", "rolout"], "no method 'rolout' to compare with; nearest: 'rollout'", 2),
        (["saliency", "--dataset", "ecsd"], "dataset = 'ecsd'; nearest: 'ecssd'", 2),
        (["saliency", "--model", "./nowhere"], "no model folder './nowhere'", 1),
        (["saliency", "--methods", "rolout"], "no method 'rolout'; nearest: 'rollout'", 2),
        (["saliency", "--limit", "0"], "limit = '0', expected a whole number, 1 or more", 2),
        (["saliency", "--resamples", "0"], "resamples = '0'", 2),
        (["saliency", "--half", "2"], "half = '2', expected a whole number, 0 to 1", 2),
        (["saliency", "--batch", "many"], "batch = 'many'", 2),
        (["saliency", "--engine", "spark"], "engine = 'spark'", 2),
        (["saliency", "--workers", "2"], "--workers goes with --engine ray", 2),
        (["saliency", "--engine", "ray", "--workers", "0"], "workers = '0', expected a whole number, 1 or more", 2),
        (["saliency", "--engine", "ray", "--gpus", "many"], "gpus = 'many', expected a number such as 0.25", 2),
        (["saliency", "--engine", "ray", "--gpus", "1.5"], "gpus = 1.5, expected a part of one", 2),
        (["saliency", "--engine", "ray", "--runtime-env", "{"], "runtime-env = '{' is no JSON", 2),
        (["saliency", "--engine", "ray", "--address", "ray://a:1"], "expected 'auto' or HOST:PORT", 2),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Callable[..., Ran], data: Path, tmp_path: Path, changes: list[str], words: str, code: int
):
    ran = run("--data", data, "--methods", METHODS, "--out", tmp_path / "run", *changes)
    check_refused(ran, words, code)
    assert not (tmp_path / "run").exists()


def test_the_folder_is_checked_before_data_and_model(run: Callable[..., Ran], tmp_path: Path):
    """What is wrong with data, methods and model is said later: loading them takes its time."""
    rest = ["--data", tmp_path / "nowhere", "--methods", "none such", "--model", "./nowhere"]
    (tmp_path / "file").write_text("mine")
    check_refused(run("saliency", *rest, "--out", tmp_path / "file"), "file' is a file; choose another folder")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    check_refused(run("saliency", *rest, "--out", tmp_path / "other"), "holds other things than a run")
    ran = Ran("reproduce", "bounces", *rest[:2], "--out", tmp_path / "file")
    check_refused(ran, "file' is a file; choose another folder")
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    (tmp_path / "runs" / "run-1" / "thesis.tex").write_text("mine")
    ran = Ran("reproduce", "bounces", *rest[:2], "--out", tmp_path / "runs")
    check_refused(ran, "holds other things than a run")


def test_options_become_the_protocols_fields():
    found = protocol_options(Saliency, ["native=true", "posts=refined", "radius=4", "eps=1", "size=none"], None)
    assert found == {"native": True, "posts": ("refined",), "radius": 4, "eps": 1, "size": None}
    assert protocol_options(Saliency, ["posts="], 224) == {"posts": (), "size": 224}
    assert protocol_options(Masking, ["how=keys,pixels", "ratios=0,0.5"], 64) == {
        "how": ("keys", "pixels"), "ratios": (0, 0.5), "side": 64,
    }  # fmt: skip
    assert Saliency(**found).posts == ("refined",)


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        (["size=64"], 32, "'size' is given twice"),
        (["radius=wide"], None, "option radius = 'wide', expected something like 16"),
        (["=1"], None, "is not NAME=VALUE"),
    ],
)
def test_options_that_do_not_fit_are_named(options: list[str], size: int | None, words: str):
    with pytest.raises(InputError, match=words):
        protocol_options(Saliency, options, size)


def test_regions_need_no_maps(run: Callable[..., Ran], tmp_path: Path):
    from scipy.io import savemat

    folder = tmp_path / "bsds500"
    (folder / "images").mkdir(parents=True)
    (folder / "groundTruth").mkdir()
    cells = np.empty((1, 2), dtype=object)
    for i in range(2):
        labels = np.ones((48, 64), dtype=np.uint16)
        labels[:, 32 + 8 * i :] = 2
        cells[0, i] = {"Segmentation": labels, "Boundaries": np.zeros((48, 64), dtype=np.uint8)}
    for name in ("a", "b"):
        picture = np.zeros((48, 64, 3), dtype=np.uint8)
        picture[:, 32:] = 200
        PIL.Image.fromarray(picture).save(folder / "images" / f"{name}.jpg")
        savemat(folder / "groundTruth" / f"{name}.mat", {"groundTruth": cells})
    ran = run(
        "regions", "--data", folder, "--methods", "metastable", "--option", "scales=2,3", "--size", 64,
        "--out", tmp_path / "run", "--resamples", 5,
    )  # fmt: skip
    assert ran.code == 0, ran.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["images"]["done"] == 2


def test_pictures_and_versions_that_changed_are_refused_and_other_versions_may_be_allowed(
    run: Callable[..., Ran], data: Path, tmp_path: Path
):
    command = ["saliency", "--data", data, "--methods", METHODS, "--size", 64, "--out", tmp_path / "run"]
    assert run(*command, "--resamples", 10).code == 0
    record = read_record(tmp_path / "run")
    record["runs"][0]["versions"]["torch"] = "1.0"
    write_record(tmp_path / "run", record)
    check_refused(run(*command), "torch was 1.0, now ", 1)
    allowed = run(*command, "--resamples", 10, "--other-versions")
    assert allowed.code == 0, allowed.stderr
    assert len(Run(tmp_path / "run").starts) == 2
    mask = data / "masks" / "2.png"
    PIL.Image.new("L", (64, 48), 255).save(mask)
    check_refused(run(*command), "the files of 1 of 5 images have changed since the run in ", 1)


@pytest.mark.parametrize("name", ["run.json", "run.lock", "parts", *sorted(FILES)])
def test_links_in_the_folder_of_a_run_are_refused_before_anything_is_loaded(
    run: Callable[..., Ran], tmp_path: Path, name: str
):
    (tmp_path / "run").mkdir()
    (tmp_path / "theirs").write_bytes(b"theirs")
    if name in FILES:
        write_record(tmp_path / "run", {"settings": {}, "problems": {}, "runs": [], "keys": [], "contents": {}})
    (tmp_path / "run" / name).symlink_to("../theirs")
    rest = ["--data", tmp_path / "nowhere", "--methods", "none such", "--model", "./nowhere"]
    check_refused(run("saliency", *rest, "--out", tmp_path / "run"), f"{name}' is a link, which is not followed", 1)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
