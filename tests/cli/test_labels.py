from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tests.tiny import save_vit

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def run() -> Run:
    return Ran


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def labels_in(folder: Path, command: str) -> tuple[np.ndarray, dict[str, Any]]:
    with PIL.Image.open(folder / f"noise-{command}-mask.png") as opened:
        assert opened.mode == "P"
        labels = np.asarray(opened)
        assert opened.size == (60, 40)
    return labels, json.loads((folder / f"noise-{command}-coco.json").read_text("utf-8"))


def test_segment_writes_overlay_labels_and_coco(run: Run, picture: Path, vit: Path, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    ran = run("segment", picture, "--model", vit, "--start", "59,0", "--start", "cls", "--start", "0.2,0.2",
              "--out", out)  # fmt: skip
    assert ran.code == 0, ran.stderr
    assert "\nnoise.png: " in ran.stderr
    # noise, seen by random weights
    assert re.match(r"warning: 'object \d' of segment hardly stands out", ran.stderr)
    assert "rule mean; strength 0." in ran.stderr
    assert ran.names == ["noise-segment-figure.png", "noise-segment-mask.png", "noise-segment-coco.json"]
    assert sorted(out.iterdir()) == sorted(ran.paths)
    labels, coco = labels_in(out, "segment")
    assert labels.max() == 3
    assert [c["name"] for c in coco["categories"]] == ["object 1", "cls", "object 3"]
    assert {a["category_id"]: a["area"] for a in coco["annotations"]} == {
        int(i): int((labels == i).sum()) for i in np.unique(labels) if i
    }
    assert coco["images"][0]["file_name"] == "noise.png"
    assert "made by tokenrank" in coco["info"]["description"]


def test_segment_options_reach_the_task(run: Run, picture: Path, vit: Path, tmp_path: Path):
    from tokenrank.tasks.segment import segment as cut_out

    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 5:30] = 255
    PIL.Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ["--mask", tmp_path / "mask.png", "--n", "halflife", "--layer", "-1", "--heads", "1", "--backward"]
    options += ["--rule", "0.5", "--component", "--size", 40]
    ran = run("segment", picture, "--model", vit, *options, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    expected = cut_out(picture, mask > 0, model=vit, n="halflife", layer=-1, heads=1, direction="backward", rule=0.5,
                       component=True, size=40)  # fmt: skip
    assert (labels_in(tmp_path, "segment")[0] == expected.labels).all()


def test_cluster_options_reach_the_task_and_files_are_replaced(run: Run, picture: Path, vit: Path, tmp_path: Path):
    from tokenrank.tasks.cluster import cluster as divide

    for options, given in (
        (["-k", "3"], {"k": 3}),
        (["--tau", "0.4", "--grid", "tokenrank-cells", "--sort", "--anchors", "3", "--n", "2"],
         {"tau": 0.4, "grid": "tokenrank-cells", "sort": True, "anchors": 3, "n": 2}),
        (["--how", "metastable", "--k", "2", "--layer", "0", "--heads", "lambda2"],
         {"how": "metastable", "k": 2, "layer": 0, "heads": "lambda2"}),
        (["--layer", "0", "--layer", "2", "--heads", "0+1"], {"layer": [0, 2], "heads": [0, 1]}),
        (["--layer", "*", "--heads", "uniform", "--tau", "0.2", "--grid", "metastable", "--iterations", "1"],
         {"layer": "*", "heads": "uniform", "tau": 0.2, "grid": "metastable", "iterations": 1}),
    ):  # fmt: skip
        ran = run("cluster", picture, "--model", vit, *options, "--out", tmp_path)
        assert ran.code == 0, ran.stderr
        labels, coco = labels_in(tmp_path, "cluster")
        expected = divide(picture, model=vit, **given)
        assert (labels == expected.labels).all()
        assert len(coco["annotations"]) == len(expected.names) - 1


def test_files_of_others_are_kept(run: Run, picture: Path, vit: Path, tmp_path: Path):
    (tmp_path / "noise-segment-coco.json").write_text("mine")
    ran = run("segment", picture, "--model", vit, "--out", tmp_path)
    assert ran.code == 1
    assert "was not made by tokenrank" in ran.stderr
    assert (tmp_path / "noise-segment-coco.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["segment", "--start", "foo"], "no span 'foo'", 1),
        (["segment", "--start", "5,400"], "outside the picture", 1),
        (["segment", "--box", "5,5,100,10"], "not inside the picture of 60 × 40 pixels", 1),
        (["segment", "--box", "5,5"], "is not x0,y0,x1,y1", 2),
        (["segment", "--box", "5,5,5,10"], "expected 0 ≤ x0 < x1", 2),
        (["segment", "--n", "many"], "n = 'many'", 2),
        (["segment", "--rule", "2"], "rule = '2'", 2),
        (["segment", "--heads", "best"], "no heads 'best'", 2),
        (["segment", "--start", "1,1", "--box", "1,1,5,5"], "--start and --box are given, expected one of them", 2),
        (["segment", "--start", "1,1", "--mask", "m.png"], "--start and --mask are given", 2),
        (["cluster", "--tau", "-1"], "tau = '-1'", 2),
        (["cluster", "--tau", "nan"], "tau = 'nan'", 2),
        (["cluster", "--n", "0"], "n = '0'", 2),
        (["cluster", "--anchors", "0"], "anchors = '0'", 2),
        (["cluster", "--iterations", "0"], "iterations = '0'", 2),
        (["cluster", "--grid", "metastble"], "grid = 'metastble'; nearest: 'metastable'", 2),
        (["cluster", "--k", "100000"], "k = '100000', expected a whole number, 1 to 255", 2),
        (["cluster", "--k", "200"], "k = 200 segments of 24 patches", 1),
        (["cluster", "--how", "metstable"], "how = 'metstable'; nearest: 'metastable'; all: 'merge', 'metastable'", 2),
        (["cluster", "--layer", "9"], "no layer 9", 1),
        (["saliency", "--how", "arival"], "how = 'arival'; nearest: 'arrival'; all: ", 2),
        (["saliency", "--side", "left"], "side = 'left'; expected one of 'tokenrank', 'border', 'seed'", 2),
        (["saliency", "--size", "7"], "size = 7 is less than one patch of 8 × 8 pixels", 1),
        (["saliency", "--size", "16"], "has 1 × 2 patches, expected 3 × 3 or more; give a larger size", 1),
        (["saliency", "--formats", "png"], "no format 'png'; expected one of 'figure', 'overlay', 'mask', 'coco'", 2),
    ],
)
def test_bad_options_are_one_line(
    run: Run, picture: Path, vit: Path, tmp_path: Path, arguments: list[str], message: str, code: int
):
    command, *options = arguments
    ran = run(command, picture, "--model", vit, *options, "--out", tmp_path / "out")
    check_refused(ran, message, code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], {}),
        (["--how", "border", "--heads", "uniform", "--layer", "0", "--layer", "2"],
         {"how": "border", "heads": "uniform", "layer": [0, 2]}),
        (["--how", "slow", "--side", "border", "--component", "--rule", "0.5"],
         {"how": "slow", "side": "border", "component": True, "rule": 0.5}),
        (["--how", "tokenrank", "--size", "40"], {"how": "tokenrank", "size": 40}),
    ],
)  # fmt: skip
def test_saliency_options_reach_the_task(
    run: Run, picture: Path, vit: Path, tmp_path: Path, options: list[str], given: dict[str, Any]
):
    from tokenrank.tasks import saliency

    ran = run("saliency", picture, "--model", vit, *options, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    labels, coco = labels_in(tmp_path, "saliency")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise, in which nothing is
        expected = saliency(picture, model=vit, **given)
    assert (labels == expected.labels).all()
    assert [c["name"] for c in coco["categories"]] == ["object"]


def test_an_overlay_has_the_pixels_of_the_picture(run: Run, picture: Path, vit: Path, tmp_path: Path):
    ran = run("cluster", picture, "--model", vit, "--formats", "overlay", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert ran.names == ["noise-cluster-overlay.png"]
    with PIL.Image.open(ran.paths[0]) as opened:
        assert opened.size == (60, 40)


def test_refining_follows_edges(run: Run, picture: Path, vit: Path, tmp_path: Path):
    pytest.importorskip("kornia")
    masks = []
    for options in ([], ["--refine"]):
        ran = run("saliency", picture, "--model", vit, "--formats", "mask", *options, "--out", tmp_path)
        assert ran.code == 0, ran.stderr
        assert ran.names == ["noise-saliency-mask.png"]
        masks.append(ran.paths[0].read_bytes())
    assert masks[0] != masks[1]


@pytest.mark.parametrize(("option", "extra"), [("--refine", "refine"), ("--component", "evaluate")])
def test_what_is_not_installed_is_told_first(
    run: Run, tmp_path: Path, option: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    for module in ("kornia", "scipy"):
        monkeypatch.setitem(sys.modules, module, None)
    for command in ("segment", "saliency"):
        ran = run(command, tmp_path / "none.png", option, "--out", tmp_path)
        check_refused(ran, f"is not installed: pip install 'tokenrank[{extra}]'")


def test_a_mask_of_another_size_is_refused(run: Run, picture: Path, vit: Path, tmp_path: Path):
    PIL.Image.fromarray(np.full((5, 5), 255, np.uint8)).save(tmp_path / "mask.png")
    ran = run("segment", picture, "--model", vit, "--mask", tmp_path / "mask.png", "--out", tmp_path)
    assert ran.code == 1
    assert "5 × 5 pixels, expected the picture's 60 × 40" in ran.stderr
