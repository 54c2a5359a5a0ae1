from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran
from tests.cli.test_image import check_refused
from tests.tiny import SENTENCE, save_bert

Run = Callable[..., Ran]


def facts(out: Path) -> dict[str, object]:
    return json.loads((out / "table.json").read_text("utf-8"))["analysis"]


def test_files_are_written(run: Run, bert: Path, tmp_path: Path):
    ran = run("text", SENTENCE, "--model", bert, "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert [path.name for path in ran.paths] == [
        "bounces.png",
        "bounces.pdf",
        "lambda2.png",
        "lambda2.pdf",
        "table.json",
    ]
    assert all(path.stat().st_size for path in ran.paths)
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert table["analysis"]["text"] == SENTENCE
    assert table["analysis"]["start"] == "text"
    assert [row["text"] for row in table["tokens"]] == SENTENCE.split()


@pytest.mark.parametrize(("start", "token"), [("cat", 1), ("CAT", 1), ("5", 5), ("-1", 9)])
def test_start(run: Run, bert: Path, tmp_path: Path, start: str, token: int):
    ran = run("text", SENTENCE, "--model", bert, "--start", start, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    rows = json.loads((tmp_path / "table.json").read_text("utf-8"))["tokens"]
    assert [row["token"] for row in rows if row["start"]] == [token]


def test_a_number_that_is_a_word_is_the_word(run: Run, bert: Path, tmp_path: Path):
    assert run("text", "cat sat on 7 mat", "--model", bert, "--start", "7", "--out", tmp_path).code == 0
    assert facts(tmp_path)["start"] == "7"
    rows = json.loads((tmp_path / "table.json").read_text("utf-8"))["tokens"]
    assert [row["text"] for row in rows if row["start"]] == ["7"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (SENTENCE, ["--start", "cats"], "no word 'cats' among the tokens; nearest: 'cat'"),
        (SENTENCE, ["--start", "the"], "word 'the' occurs 2 times, at tokens 0, 4"),
        (SENTENCE, ["--start", "10"], "start 10 of a text of 10 tokens, expected 0 to 9"),
        (SENTENCE, ["--layer", "encoder.layer.9"], "no layer 'encoder.layer.9'; nearest: 'encoder.layer"),
        (SENTENCE, ["--heads", "-3"], "no head -3"),
        ("", [], "the text is empty"),
        (" \n", [], "the text is empty"),
        (" ".join([SENTENCE] * 60), [], "512 at most"),
    ],
)
def test_bad_input(run: Run, bert: Path, tmp_path: Path, text: str, options: list[str], words: str):
    check_refused(run("text", text, "--model", bert, "--out", tmp_path / "out", *options), words)
    assert not (tmp_path / "out").exists()


def test_a_picture_model_is_refused(run: Run, vit: Path, tmp_path: Path):
    check_refused(run("text", "hello", "--model", vit, "--out", tmp_path), "reads image, but kind='text' was asked")


def test_hostile_tokens(run: Run, tmp_path: Path):
    words = ["$x$", "<b>", "\\alpha", "漢字", "a\nb", "\x1b[31m", "\u202e", "日"]
    model = save_bert(tmp_path / "model", words)
    for form in ("json", "parquet"):
        options = ["--out", tmp_path / "out", "--formats", "png,pdf,svg", "--table", form]
        ran = run("text", " ".join(words), "--model", model, *options)
        assert ran.code == 0, ran.stderr
    rows = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))["tokens"]
    assert [row["text"] for row in rows] == words


def test_without_a_model_nothing_is_downloaded(run: Run, tmp_path: Path):
    sentence = "The old bridge across the river was closed because the engineers found deep cracks in it."
    ran = run("text", sentence, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    rows = sorted(table["tokens"], key=lambda row: -row["tokenrank"])
    assert {"engineers", "bridge", "river"} <= {row["text"] for row in rows[:6]}
    assert table["analysis"]["model"] == "bundled"
    assert (table["analysis"]["layer"], table["analysis"]["tokens"]) == (5, len(rows))


def test_special_tokens_on_request(run: Run, bert: Path, tmp_path: Path):
    ran = run("text", SENTENCE, "--model", bert, "--tokens", "all", "--start", "-1", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    rows = json.loads((tmp_path / "table.json").read_text("utf-8"))["tokens"]
    assert [row["text"] for row in rows] == ["[CLS]", *SENTENCE.split(), "[SEP]"]
    assert [row["token"] for row in rows if row["start"]] == [11]


def test_a_file_is_no_text(run: Run, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("a text")
    check_refused(run("text", tmp_path / "notes.txt", "--out", tmp_path / "out"), "is a file; give what is in it")
