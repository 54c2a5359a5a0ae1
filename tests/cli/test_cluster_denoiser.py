"""``tokenrank cluster`` with a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]
diffusers = pytest.importorskip("diffusers")
from tests.diffusion.pipelines import stable_diffusion  # noqa: E402


def test_a_pipeline_divides_a_picture(run: Run, picture: Path, tmp_path: Path):
    import tokenrank as tr

    folder = tmp_path / "pipeline"
    (tmp_path / "words").mkdir()
    stable_diffusion(tmp_path / "words").save_pretrained(folder)
    options = ["--layer", "*", "--heads", "uniform", "--k", "3", "--grid", "tokenrank-top", "--anchors", "4"]
    given = {"layer": "*", "heads": "uniform", "k": 3, "grid": "tokenrank-top", "anchors": 4}
    for more, told in (([], {"prompt": "", "noise": 0.1}), (["--prompt", "a cat", "--noise", "0.4"],
                                                          {"prompt": "a cat", "noise": 0.4})):  # fmt: skip
        ran = run("cluster", picture, "--model", folder, *options, *more, "--out", tmp_path / "out")
        assert ran.code == 0, ran.stderr
        labels = np.asarray(PIL.Image.open(tmp_path / "out" / "noise-cluster-mask.png"))
        expected = tr.tasks.cluster(picture, model=folder, **given, **told)
        assert (labels == expected.labels).all()


def test_a_prompt_needs_a_pipeline(run: Run, picture: Path, vit: Path, tmp_path: Path):
    for options in (["--prompt", "a cat"], ["--noise", "0.3"]):
        ran = run("cluster", picture, "--model", vit, *options, "--out", tmp_path)
        assert ran.code == 2
        assert f"{options[0]} goes with a pipeline of diffusers" in ran.stderr
