"""``tokenrank explore``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tests.explorer import made
from tests.tiny import SENTENCE
from tokenrank.cli.explore import heads_of, layers_of

Run = Callable[..., Ran]


def index_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="index">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    return json.loads(found[1])


def test_a_picture(run: Run, vit: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "page.html"
    ran = run("explore", picture, "--model", vit, "--out", out, "--layers", "0+2", "--heads", "1")
    assert ran.code == 0, ran.stderr
    assert ran.paths == [out]
    told, time = ran.stderr.splitlines()
    size = out.stat().st_size / 1e6
    assert told.startswith(
        f"noise.png: {size:.1f} MB; layers 0 and 2 of 0–2, thumbnails of the others; stored as int16, "
    )
    assert re.search(r"probabilities off by \de-\d\d at most$", told)
    assert time.startswith("noise.png: ")
    index = index_of(out)
    (sheet,) = index["sheets"]
    assert [layer["stored"]["heads"] if layer["stored"] else None for layer in sheet["layers"]] == [[1], None, [1]]


def test_a_text_is_told(run: Run, bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    ran = run("explore", SENTENCE, "--model", bert, "--out", out, "--small")
    assert ran.code == 0, ran.stderr
    assert "is read as a text, since no file is called so" in ran.stderr.splitlines()[0]
    assert "stored as int8" in ran.stderr
    assert index_of(out)["sheets"][0]["kind"] == "text"


def test_a_trace_and_several_sources(run: Run, tmp_path: Path) -> None:
    made.trace().save(tmp_path / "one.safetensors")
    made.trace(seed=1).save(tmp_path / "two.safetensors")
    out = tmp_path / "page.html"
    ran = run("explore", tmp_path / "one.safetensors", tmp_path / "two.safetensors", "--out", out, "--quiet")
    assert (ran.code, ran.stderr, ran.paths) == (0, "", [out])
    assert [sheet["name"] for sheet in index_of(out)["sheets"]] == ["one.safetensors", "two.safetensors"]


def test_a_folder_of_pictures(run: Run, vit: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (48, 48), "red").save(tmp_path / name)
    ran = run("explore", tmp_path, "--model", vit, "--out", tmp_path / "page.html")
    assert ran.code == 0, ran.stderr
    assert [sheet["name"] for sheet in index_of(tmp_path / "page.html")["sheets"]] == ["a.png", "b.png"]


def test_names_of_pages(run: Run, vit: Path, bert: Path, picture: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("explore", picture, "--model", vit).names == ["noise-explorer.html"]
    assert run("explore", SENTENCE, "--model", bert).names == ["the-cat-sat-on-the-mat-because-explorer.html"]
    made.trace().save(tmp_path / "one.safetensors")
    again = run("explore", "one.safetensors", "one.safetensors")
    assert again.names == ["one-and-1-more-explorer.html"]


def test_data_for_a_site(run: Run, vit: Path, picture: Path, tmp_path: Path) -> None:
    ran = run("explore", picture, "--model", vit, "--out", tmp_path / "page.trx")
    assert ran.code == 0, ran.stderr
    assert (tmp_path / "page.trx").read_bytes()[:4] == b"TRX1"


@pytest.mark.parametrize("ending", ["html", "trx"])
def test_files_that_are_there(run: Run, vit: Path, picture: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"page.{ending}"
    options = ["--model", vit, "--out", out]
    assert run("explore", picture, *options).code == 0
    again = run("explore", picture, *options)
    assert again.code == 0
    assert "replaced 1 file of the same name" in again.stderr
    PIL.Image.new("RGB", (48, 48), "red").save(tmp_path / "other.png")
    check_refused(run("explore", tmp_path / "other.png", *options), "is the result of another source")
    assert run("explore", tmp_path / "other.png", *options, "--overwrite").code == 0
    out.write_text("mine")
    check_refused(run("explore", picture, *options, "--overwrite"), "was not made by tokenrank")
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (["--out", "page.pdf"], "expected the name of a file that ends in .html or .trx", 2),
        (["--out", "folder"], "expected the name of a file that ends in .html or .trx", 2),
        (["--heads", "uniform"], "heads = 'uniform', expected numbers of heads that the page holds", 2),
        (["--heads", "0++1"], "expected one, or several with + between them, such as 0+3", 2),
        (["--layers", ""], "expected one, or several with + between them, such as 8+11", 2),
        (["--limit", "0"], "limit = '0', expected a whole number, 1 or more, such as 12", 2),
        (["--alpha", "1"], "alpha = '1', expected a probability from 0.5 to 0.999", 2),
        (["--layers", "7"], "no layer 7: there are 3", 1),
        (["--heads", "7"], "no head 7", 1),
    ],
)
def test_misuse(
    run: Run, vit: Path, picture: Path, tmp_path: Path, monkeypatch: Any, options: list[str], words: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(run("explore", picture, "--model", vit, *options), words, code)
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.jpg", "no file 'nothing.jpg'"),
        ("cat", "no file 'cat'"),
        ("", "'' names no picture"),
        ("https://example.org/cat.jpg", "is an address"),
        ("notes.txt", "is a file of text; give what is in it"),
        ("broken.safetensors", "broken.safetensors"),
    ],
)
def test_bad_sources(run: Run, vit: Path, tmp_path: Path, monkeypatch: Any, source: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("a text")
    (tmp_path / "broken.safetensors").write_bytes(b"\0" * 100)
    check_refused(run("explore", source, "--model", vit), words)
    assert not list(tmp_path.rglob("*.html"))


def test_what_is_meant() -> None:
    assert layers_of(None) is heads_of(None) is heads_of("all") is None
    assert layers_of("8+11") == layers_of("8, 11") == [8, 11]
    assert layers_of("*.3.*+-1") == ["*.3.*", -1]
    assert heads_of("0+3") == [0, 3]
