"""Several pictures in one call: those that fail are listed, the rest is done, and the exit code says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tokenrank.cli.batch import each
from tokenrank.cli.output import OutFolder
from tokenrank.cli.report import reported
from tokenrank.cli.sources import Source
from tokenrank.errors import InputError, NotFoundError

Run = Callable[..., Ran]


@pytest.fixture
def folder(picture: Path, tmp_path: Path) -> Path:
    """Two good pictures and three bad ones."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture.read_bytes())
    (folder / "empty.png").touch()
    (folder / "half.png").write_bytes(picture.read_bytes()[:700])
    (folder / "words.jpg").write_text("hello")
    PIL.Image.open(picture).rotate(90, expand=True).save(folder / "z.png")
    return folder


@pytest.mark.parametrize("command", ["image", "segment", "cluster", "saliency"])
def test_a_folder_with_broken_files(run: Run, vit: Path, folder: Path, tmp_path: Path, command: str):
    ran = run(
        command, folder, "--model", vit, "--out", tmp_path / "out", "--formats", "png" if command == "image" else "mask"
    )
    assert ran.code == 3
    assert {name.split("-")[0] for name in ran.names} == {"a", "z"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(ran.names)
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    for line, words in zip(
        errors, ("empty.png' is empty", "half.png' is broken", "words.jpg' is not a picture"), strict=False
    ):
        assert words in line
    assert errors[-1] == "error: 3 of 5 pictures failed; the rest is done"
    assert len(errors) == 4


def test_all_of_them_broken(run: Run, vit: Path, folder: Path, tmp_path: Path):
    bad = [folder / name for name in ("empty.png", "half.png", "none.png")]
    ran = run("saliency", *bad, "--model", vit, "--out", tmp_path / "out")
    assert ran.code == 1
    assert ran.stderr.splitlines()[-1] == "error: 3 of 3 pictures failed"
    assert not (tmp_path / "out").exists()


def test_what_fails_on_all_is_told_once(run: Run, vit: Path, folder: Path, tmp_path: Path):
    pictures = [folder / "a.png", folder / "z.png"]
    for option, words in ((["--layer", "9"], "no layer 9"), (["--heads", "7"], "no head 7")):
        ran = run("image", *pictures, "--model", vit, *option, "--out", tmp_path / "out")
        check_refused(ran, words)


def test_pixels_are_checked_in_every_picture_before_any_work(run: Run, folder: Path, tmp_path: Path):
    pictures = [folder / "a.png", folder / "z.png"]  # 60 × 40 and 40 × 60
    for command in ("image", "segment"):
        ran = run(command, *pictures, "--start", "50,10", "--model", "./nowhere", "--out", tmp_path / "out")
        check_refused(ran, "z.png': start '50,10' is outside the picture of 40 × 60 pixels")
        assert ran.stderr.rstrip().endswith("give fractions, which fit every picture")
    ran = run("segment", *pictures, "--box", "0,0,50,10", "--model", "./nowhere", "--out", tmp_path / "out")
    check_refused(ran, "is not inside the picture of 40 × 60 pixels")


def test_fractions_fit_every_picture(run: Run, vit: Path, folder: Path, tmp_path: Path):
    pictures = [folder / "a.png", folder / "z.png"]
    ran = run("segment", *pictures, "--start", "0.9,0.1", "--model", vit, "--formats", "mask", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert ran.names == ["a-segment-mask.png", "z-segment-mask.png"]
    finished = [line for line in ran.stderr.splitlines() if line.endswith(" s")]
    assert [line.split(":")[0] for line in finished] == ["a.png", "z.png"]


def test_quiet_leaves_paths_and_errors(run: Run, vit: Path, folder: Path, tmp_path: Path):
    ran = run(
        "segment", folder / "a.png", folder / "empty.png", "-q", "--start", "cls", "--model", vit, "--out", tmp_path
    )
    assert ran.code == 3
    assert len(ran.paths) == 3
    assert {line.split(":")[0] for line in ran.stderr.splitlines()} <= {"error", "warning"}


def test_the_model_is_loaded_once_and_after_the_first_picture(run: Run, folder: Path, tmp_path: Path, monkeypatch):
    from tokenrank import models

    loaded = []
    load = models.load
    monkeypatch.setattr(models, "load", lambda *a, **k: loaded.append(a) or load(*a, **k))
    ran = run("saliency", folder / "a.png", folder / "z.png", "--size", 48, "--out", tmp_path / "out")
    assert ran.code == 0, ran.stderr
    assert len(loaded) == 1
    check_refused(run("saliency", folder / "empty.png", "--out", tmp_path / "out"), "is empty")
    assert len(loaded) == 1


SOURCES = [Source(f"{name}.png", name, "0" * 16) for name in ("a", "b", "c")]


def ended(work: Callable[[Source], None], tmp_path: Path) -> int:
    import typer

    with pytest.raises(typer.Exit) as end, reported():
        each(SOURCES, "picture", OutFolder(tmp_path, {}), lambda source, say: (say("at work"), work(source))[1])
    return end.value.exit_code


def test_an_interrupt_says_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def work(source: Source) -> None:
        if source.stem == "b":
            raise KeyboardInterrupt

    assert ended(work, tmp_path) == 130
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"error: interrupted; 1 picture of 3 done, their results are in {tmp_path}"


def test_nobody_thought_of_it_and_the_rest_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done = []

    def work(source: Source) -> None:
        if source.stem == "b":
            raise ZeroDivisionError("division by zero")
        done.append(source.stem)

    assert ended(work, tmp_path) == 3
    assert done == ["a", "c"]
    err = capsys.readouterr().err
    assert "error: b.png: unexpected ZeroDivisionError: division by zero; TOKENRANK_DEBUG=1 shows" in err


@pytest.mark.parametrize(("error", "code", "tried"), [(InputError, 1, 3), (NotFoundError, 1, 1)])
def test_what_one_source_has_wrong_and_what_all_have(tmp_path: Path, error: type[Exception], code: int, tried: int):
    seen = []

    def work(source: Source) -> None:
        seen.append(source.stem)
        raise error("no")

    assert ended(work, tmp_path) == code
    assert len(seen) == tried
