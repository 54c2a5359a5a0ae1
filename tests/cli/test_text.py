from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, check_refused
from tests.tiny import SENTENCE, save_bert
from tokenrank.cli.text import stem_of

Run = Callable[..., Ran]


def table_in(out: Path) -> dict[str, Any]:
    (path,) = out.glob("*-table.json")
    return json.loads(path.read_text("utf-8"))


def test_files_are_written(run: Run, bert: Path, tmp_path: Path):
    ran = run("text", SENTENCE, "--model", bert, "--formats", "png,pdf", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    stem = stem_of(SENTENCE)
    assert SENTENCE.lower().replace(" ", "-").startswith(stem)
    endings = ("bounces.png", "bounces.pdf", "lambda2.png", "lambda2.pdf", "table.json")
    assert ran.names == [f"{stem}-{ending}" for ending in endings]
    assert all(path.stat().st_size for path in ran.paths)
    table = table_in(tmp_path)
    assert table["analysis"]["text"] == SENTENCE
    assert table["analysis"]["start"] == "text"
    assert [row["text"] for row in table["tokens"]] == SENTENCE.split()


@pytest.mark.parametrize(("start", "token"), [("cat", 1), ("CAT", 1), ("5", 5), ("-1", 9)])
def test_start(run: Run, bert: Path, tmp_path: Path, start: str, token: int):
    ran = run("text", SENTENCE, "--model", bert, "--start", start, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    rows = table_in(tmp_path)["tokens"]
    assert [row["token"] for row in rows if row["start"]] == [token]


def test_a_number_that_is_a_word_is_the_word(run: Run, bert: Path, tmp_path: Path):
    assert run("text", "cat sat on 7 mat", "--model", bert, "--start", "7", "--out", tmp_path).code == 0
    assert table_in(tmp_path)["analysis"]["start"] == "7"
    rows = table_in(tmp_path)["tokens"]
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
    rows = table_in(tmp_path / "out")["tokens"]
    assert [row["text"] for row in rows] == words


def test_without_a_model_nothing_is_downloaded(run: Run, tmp_path: Path):
    sentence = "The old bridge across the river was closed because the engineers found deep cracks in it."
    ran = run("text", sentence, "--out", tmp_path, "--formats", "png")
    assert ran.code == 0, ran.stderr
    table = table_in(tmp_path)
    rows = sorted(table["tokens"], key=lambda row: -row["tokenrank"])
    assert {"engineers", "bridge", "river"} <= {row["text"] for row in rows[:6]}
    assert table["analysis"]["model"] == "bundled"
    assert (table["analysis"]["layer"], table["analysis"]["tokens"]) == (5, len(rows))


def test_special_tokens_on_request(run: Run, bert: Path, tmp_path: Path):
    ran = run("text", SENTENCE, "--model", bert, "--tokens", "all", "--start", "-1", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    rows = table_in(tmp_path)["tokens"]
    assert [row["text"] for row in rows] == ["[CLS]", *SENTENCE.split(), "[SEP]"]
    assert [row["token"] for row in rows if row["start"]] == [11]


def test_a_file_is_no_text(run: Run, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("a text")
    check_refused(run("text", tmp_path / "notes.txt", "--out", tmp_path / "out"), "is a file; give what is in it")


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("The old bridge was closed because", "the-old-bridge-was-closed"),
        ("  Ünïcode, and/or: $PATH\n", "unicode-and-or-path"),
        ("x" * 50 + " y", "x" * 32),
        ("漢字", "text-c6d29771"),
        ("../..", "text-0cfd1c96"),
    ],
)
def test_results_are_named_after_the_first_words(text: str, stem: str):
    assert stem_of(text) == stem


def test_texts_in_scripts_that_the_model_cannot_read(run: Run, tmp_path: Path):
    texts = ("שלום עולם, הגשר הישן", "الجسر القديم مغلق")
    runs = [run("text", text, "--formats", "png", "--out", tmp_path) for text in texts]
    for ran, counts in zip(runs, ("4 of 5", "3 of 3"), strict=True):
        assert ran.code == 0, ran.stderr
        assert f"warning: {counts} tokens of the text are unknown to model 'bundled'" in ran.stderr
    assert not {*runs[0].names} & {*runs[1].names}, "beside each other"


def test_another_text_of_the_same_first_words(run: Run, bert: Path, tmp_path: Path):
    options = ["--model", bert, "--out", tmp_path, "--formats", "png"]
    assert run("text", SENTENCE, *options).code == 0
    again = run("text", SENTENCE, *options, "--n", "1,2")
    assert again.code == 0
    assert again.stderr.splitlines()[-1] == "replaced 3 files of the same name"
    check_refused(run("text", SENTENCE + " cat", *options), "is the result of another source")


def test_a_long_text_has_pages_and_none_takes_the_place_of_another_file(run: Run, tmp_path: Path):
    words = [f"w{i}" for i in range(450)]
    model = save_bert(tmp_path / "model", words)
    text = " ".join(words)
    options = ["--model", model, "--n", "1,2,3,4,5,6,7,8", "--out", tmp_path / "out"]
    ran = run("text", text, *options, "--formats", "png,pdf")
    assert ran.code == 0, ran.stderr
    stem = stem_of(text)
    pages = [name for name in ran.names if name.startswith(f"{stem}-bounces") and name.endswith(".png")]
    assert pages[:2] == [f"{stem}-bounces.png", f"{stem}-bounces-2.png"]
    assert [name for name in ran.names if name.endswith("bounces.pdf")] == [f"{stem}-bounces.pdf"]
    (tmp_path / "out" / pages[1]).write_text("mine")
    again = run("text", text, *options)
    assert again.code == 1
    assert f"{pages[1]}' exists and was not made by tokenrank" in again.stderr
    assert (tmp_path / "out" / pages[1]).read_text() == "mine"


def test_halflife_shows_maps_up_to_it(run: Run, bert: Path, tmp_path: Path):
    ran = run("text", SENTENCE, "--model", bert, "--out", tmp_path, "--n", "halflife", "--start", "cat")
    assert ran.code == 0, ran.stderr
    import tokenrank as tr

    observation = tr.observe(SENTENCE, str(bert), kind="text")
    expected = int(observation.chain().half_life("cat").values)
    assert table_in(tmp_path)["analysis"]["bounces"][-1] == expected
