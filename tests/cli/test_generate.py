"""``tokenrank generate`` and ``segment --words``, on a tiny pipeline of diffusers in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("diffusers")

from tests.diffusion import pipelines

from .conftest import Ran, check_refused

DRAW = ("--steps", 3, "--size", "32x16", "--cfg", 2)


@pytest.fixture(scope="session")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flux")
    pipelines.flux(tmp_path_factory.mktemp("words")).save_pretrained(folder)
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(PIL.Image.open(path), np.int16)


def test_a_picture_a_seed(pipe: Path, tmp_path: Path) -> None:
    ran = Ran("generate", "a cat", "--model", pipe, "--seeds", "1-2,5", *DRAW, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert ran.names == ["a-cat-1.png", "a-cat-2.png", "a-cat-5.png"]
    drawn = [pixels(path) for path in ran.paths]
    assert all(picture.shape == (16, 32, 3) for picture in drawn)
    assert np.abs(drawn[0] - drawn[1]).max() > 0
    again = Ran("generate", "a cat", "--model", pipe, "--seeds", "2", *DRAW, "--out", tmp_path / "again")
    assert np.array_equal(pixels(again.paths[0]), drawn[1])


EVERY = ("colsum", "tokenrank", "bounce", "all", "random", "word:cat", "identity", "smooth", "shuffle")


@pytest.mark.parametrize("guidance", EVERY)
def test_every_guidance_changes_the_picture(guidance: str, pipe: Path, tmp_path: Path) -> None:
    told = ("--guidance", guidance, "--scale", 20, "--compare")
    ran = Ran("generate", "a cat", "--model", pipe, *told, *DRAW, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert ran.names == ["a-cat-0.png", "a-cat-compare.png"]
    plain = Ran("generate", "a cat", "--model", pipe, *DRAW, "--out", tmp_path / "plain")
    assert np.abs(pixels(plain.paths[0]) - pixels(ran.paths[0])).max() > 0
    assert "3 passes" in ran.stderr


def test_previews_are_written_on_the_way(pipe: Path, tmp_path: Path) -> None:
    ran = Ran("generate", "a cat", "--model", pipe, *DRAW, "--preview", 2, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert "step 2:" in ran.stderr
    assert pixels(tmp_path / "a-cat-0-preview.png").shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("told", "words", "code"),
    [
        (("--guidance", "tokenrnk"), "expected none, colsum, tokenrank", 2),
        (("--guidance", "word:"), "word:WORD", 2),
        (("--guidance", "word:elephant"), "elephant", 1),
        (("--compare",), "--compare needs guidance", 2),
        (("--seeds", "5-2"), "seeds", 2),
        (("--seeds", "0-100000"), "1,000 at most", 2),
        (("--size", "33x16"), "multiple", 1),
        (("--size", "wide"), "WIDTHxHEIGHT", 2),
        (("--steps", "0"), "steps", 2),
        (("--scale", "-1"), "scale", 2),
        (("--guidance", "tokenrank", "--layer", "nowhere"), "nowhere", 1),
    ],
)
def test_what_cannot_be_meant_is_refused(
    told: tuple[str, ...], words: str, code: int, pipe: Path, tmp_path: Path
) -> None:
    draw = () if "--size" in told or "--steps" in told else DRAW
    ran = Ran("generate", "a cat", "--model", pipe, *draw, *told, "--out", tmp_path)
    check_refused(ran, words, code)
    assert words in ran.stderr
    assert not list(tmp_path.iterdir())


def test_a_model_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    ran = Ran("generate", "a cat", "--model", "bundled", "--out", tmp_path)
    check_refused(ran, "draws nothing")
    assert "draws nothing" in ran.stderr


# ---- segment --words


def test_a_picture_is_divided_by_words(pipe: Path, picture: Path, tmp_path: Path) -> None:
    told = ("--words", "cat,german shepherd", "--size", 32)
    ran = Ran("segment", picture, "--model", pipe, *told, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert ran.names == [f"noise-segment-{end}" for end in ("figure.png", "mask.png", "coco.json", "words.png")]
    assert PIL.Image.open(ran.paths[1]).size == PIL.Image.open(picture).size
    assert "a cat and a german shepherd" not in ran.stdout


@pytest.mark.parametrize(
    ("told", "words", "code"),
    [
        (("--words", "cat,,dog"), "different words", 2),
        (("--words", "cat,cat"), "different words", 2),
        (("--words", "cat", "--start", "0.5,0.5"), "expected one of them", 2),
        (("--words", "cat", "--component"), "--component is of places", 2),
        (("--words", "cat", "--noise", "1.5"), "noise", 2),
        (("--words", "elephant", "--prompt", "a cat"), "elephant", 1),
        (("--prompt", "a cat"), "--prompt goes with --words", 2),
    ],
)
def test_words_that_cannot_be_meant_are_refused(
    told: tuple[str, ...], words: str, code: int, pipe: Path, picture: Path, tmp_path: Path
) -> None:
    ran = Ran("segment", picture, "--model", pipe, *told, "--out", tmp_path)
    check_refused(ran, words, code)
    assert words in ran.stderr


def test_words_need_a_pipeline(picture: Path, tmp_path: Path) -> None:
    ran = Ran("segment", picture, "--words", "cat", "--out", tmp_path)
    check_refused(ran, "--words needs a pipeline", 2)
