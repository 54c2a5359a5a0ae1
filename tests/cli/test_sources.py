from __future__ import annotations

from pathlib import Path

import pytest

from tokenrank.cli.output import maker
from tokenrank.cli.sources import digest_of, sources_of
from tokenrank.endings import PICTURES
from tokenrank.errors import InputError


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def stems(*paths: Path) -> list[str]:
    return [source.stem for source in sources_of([str(path) for path in paths], "picture", PICTURES)]


def test_results_are_named_after_the_picture(tmp_path: Path):
    files(tmp_path, "cat.jpg", "my.dog.png")
    assert stems(tmp_path / "cat.jpg", tmp_path / "my.dog.png") == ["cat", "my.dog"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/cat.jpg", "b/cat.jpg"], ["a-cat", "b-cat"]),
        (["a/cat.jpg", "a/cat.png"], ["cat-jpg", "cat-png"]),
        (["a/cat.jpg", "a/CAT.png"], ["cat-jpg", "CAT-png"]),
        (["a/cat.jpg", "b/cat.jpg", "b/cat.png"], ["a-cat-jpg", "b-cat-jpg", "b-cat-png"]),
        (["a/cat.jpg", "b/cat.jpg", "a/dog.jpg"], ["a-cat", "b-cat", "dog"]),
        (["a/cat.jpg", "b/cat.jpg", "c/a-cat.png"], ["cat-jpg", "b-cat", "a-cat-png"]),
    ],
)
def test_pictures_of_one_name_are_told_apart(tmp_path: Path, names: list[str], expected: list[str]):
    files(tmp_path, *names)
    assert stems(*(tmp_path / name for name in names)) == expected


def test_those_that_cannot_be_told_apart_are_refused(tmp_path: Path):
    names = ["x/a/cat.jpg", "y/a/cat.jpg"]
    files(tmp_path, *names)
    with pytest.raises(InputError, match=r"results of '.*x/a/cat.jpg' and '.*y/a/cat.jpg' would have the same names"):
        stems(*(tmp_path / name for name in names))


def test_a_folder_stands_for_its_own_pictures(tmp_path: Path):
    files(tmp_path, "b.jpg", "a.PNG", "notes.txt", ".hidden.png", "below/c.png")
    assert stems(tmp_path) == ["a", "b"]
    # a picture that is named twice is one
    assert stems(tmp_path, tmp_path / "b.jpg", tmp_path / "below") == ["a", "b", "c"]


def test_results_in_a_folder_are_no_sources(tmp_path: Path):
    files(tmp_path, "cat.jpg")
    (tmp_path / "cat-segment-mask.png").write_text(maker("0" * 16))
    assert stems(tmp_path) == ["cat"]
    (tmp_path / "cat.jpg").unlink()
    with pytest.raises(InputError, match=r"no picture in the folder .*: those in it were made by tokenrank"):
        stems(tmp_path)


def test_a_source_knows_what_is_in_it(tmp_path: Path):
    files(tmp_path, "cat.jpg", "dog.jpg")
    cat, dog, none = sources_of([str(tmp_path / n) for n in ("cat.jpg", "dog.jpg", "none.jpg")], "picture", PICTURES)
    assert cat.digest == digest_of(b"cat.jpg") != dog.digest
    assert none.digest is None
    assert len(digest_of(b"")) == 16
