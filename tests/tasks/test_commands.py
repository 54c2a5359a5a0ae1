from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from tests.tiny import save_vit
from tokenrank.cli.cluster import cluster
from tokenrank.cli.segment import segment

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run() -> Run:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(segment)
    app.command()(cluster)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def labels_in(folder: Path, prefix: str) -> tuple[np.ndarray, dict[str, object]]:
    with PIL.Image.open(folder / f"{prefix}-labels.png") as opened:
        assert opened.mode == "P"
        labels = np.asarray(opened)
    with PIL.Image.open(folder / f"{prefix}.png") as opened:
        assert opened.size == (60, 40)
    return labels, json.loads((folder / f"{prefix}.json").read_text("utf-8"))


def test_segment_writes_overlay_labels_and_coco(run: Run, picture: Path, vit: Path, tmp_path: Path):
    out = tmp_path / "new" / "folder"
    ran = run("segment", picture, "--model", vit, "--start", "59,0", "--start", "cls", "--box", "0.1,0.1,0.5,0.5",
              "--out", out)  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "\nnoise.png: " in ran.stderr
    # noise, seen by random weights
    assert re.match(r"warning: 'object \d' of segment hardly stands out", ran.stderr)
    assert "rule mean; strength 0." in ran.stderr
    paths = [Path(line) for line in ran.stdout.splitlines()]
    assert sorted(paths) == sorted(out / name for name in ("segment.png", "segment-labels.png", "segment.json"))
    assert sorted(out.iterdir()) == sorted(paths)
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
    assert ran.exit_code == 0, ran.output
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
    ):  # fmt: skip
        ran = run("cluster", picture, "--model", vit, *options, "--out", tmp_path)
        assert ran.exit_code == 0, ran.output
        labels, coco = labels_in(tmp_path, "cluster")
        expected = divide(picture, model=vit, **given)
        assert (labels == expected.labels).all()
        assert len(coco["annotations"]) == len(expected.names) - 1


def test_files_of_others_are_kept(run: Run, picture: Path, vit: Path, tmp_path: Path):
    (tmp_path / "segment.json").write_text("mine")
    ran = run("segment", picture, "--model", vit, "--out", tmp_path)
    assert ran.exit_code == 1
    assert "was not made by tokenrank" in ran.stderr
    assert (tmp_path / "segment.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "--start", "foo"], "no span 'foo'"),
        (["segment", "--start", "5,400"], "outside the picture"),
        (["segment", "--box", "5,5"], "is not x0,y0,x1,y1"),
        (["segment", "--box", "5,5,100,10"], "inside the picture"),
        (["segment", "--n", "many"], "n = 'many'"),
        (["segment", "--rule", "2"], "rule = '2'"),
        (["segment", "--heads", "best"], "no heads 'best'"),
        (["cluster", "--tau", "-1"], "tau = '-1'"),
        (["cluster", "--tau", "nan"], "tau = 'nan'"),
        (["cluster", "--n", "0"], "n = 0"),
        (["cluster", "--anchors", "0"], "anchors = 0"),
        (["cluster", "--layer", "9"], "no layer 9"),
    ],
)
def test_bad_options_are_one_line(run: Run, picture: Path, vit: Path, tmp_path: Path, arguments, message):
    command, *options = arguments
    ran = run(command, picture, "--model", vit, *options, "--out", tmp_path / "out")
    assert ran.exit_code == 1
    (line,) = (line for line in ran.stderr.splitlines() if line.startswith("error: "))
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_is_refused(run: Run, picture: Path, vit: Path, tmp_path: Path):
    PIL.Image.fromarray(np.full((5, 5), 255, np.uint8)).save(tmp_path / "mask.png")
    ran = run("segment", picture, "--model", vit, "--mask", tmp_path / "mask.png", "--out", tmp_path)
    assert ran.exit_code == 1
    assert "5 × 5 pixels, expected the picture's 60 × 40" in ran.stderr
