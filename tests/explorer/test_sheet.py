"""Sheets: which token is what, words of a text, and whose lines and names these are."""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenrank as tr
from tests.tiny import SENTENCE, save_bert, save_vit
from tokenrank.explorer.blob import as_json
from tokenrank.explorer.index import build
from tokenrank.explorer.lines import Named, cure_of, named
from tokenrank.explorer.sheet import drafts_of
from tokenrank.explorer.tokens import tokens_json, words_json
from tokenrank.layout import TokenLayout


def chain(layout: TokenLayout, causal: bool = False) -> tr.AttentionChain:
    n = layout.num_tokens
    q, k = (torch.randn(2, n, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    return tr.AttentionChain.from_qk(q, k, is_causal=causal, layout=layout)


def sheet_of(layout: TokenLayout, causal: bool = False) -> dict[str, Any]:
    return build(tr.observe(chain(layout, causal)))[0]["sheets"][0]


def test_a_picture_with_registers():
    sheet = sheet_of(TokenLayout.image(2, 3, registers=2))
    assert sheet["kind"] == "picture"
    assert sheet["spans"] == [
        {"name": "cls", "first": 0, "count": 1},
        {"name": "registers", "first": 1, "count": 2},
        {"name": "image", "first": 3, "count": 6},
    ]
    assert sheet["grid"] == {"first": 3, "rows": 2, "columns": 3, "order": None}
    assert (sheet["special"], sheet["tokens"], sheet["words"]) == ([0, 1, 2], None, [])


def test_the_start_is_the_patch_with_the_largest_tokenrank():
    layout = TokenLayout.image(2, 3, registers=2)
    q, k = torch.zeros(1, 9, 4), torch.zeros(1, 9, 4)
    q[..., 0] = 1
    k[:, 7, 0], k[:, 0, 0] = 3.0, 9.0  # CLS has more, and is no patch
    given = tr.AttentionChain.from_qk(q, k, layout=layout)
    assert build(tr.observe(given))[0]["sheets"][0]["start"] == 7


def test_a_causal_text_starts_from_its_last_word():
    words = TokenLayout.text(["[CLS]", "a", "cat", "sat", "[SEP]"], [0, 4])
    assert sheet_of(words, causal=True)["start"] == 3
    beside = TokenLayout({"text": 1, "image": 4, "text_2": 2}, {"image": (2, 2)})
    assert sheet_of(beside, causal=True)["start"] == 6


def test_patches_that_do_not_follow_each_other_are_in_the_order_of_the_observation():
    order = (0, 3, 1, 4, 2)
    layout = TokenLayout({"cls": 1, "image": 4}, {"image": (2, 2)}, order=order)
    given = chain(layout)
    sheet = build(tr.observe(given))[0]["sheets"][0]
    assert sheet["grid"] == {"first": 1, "rows": 2, "columns": 2, "order": None}
    seen = tr.observe(given).chain(heads=0, tokens="all").to_dense()
    np.testing.assert_allclose(seen.numpy(), given[0].to_dense().numpy()[np.ix_(order, order)], atol=1e-6)


def test_a_draft_with_an_order_tells_it():
    layout = TokenLayout({"cls": 1, "image": 4}, {"image": (2, 2)}, order=(0, 3, 1, 4, 2))
    draft = drafts_of(tr.observe(chain(TokenLayout.image(2, 2))), "x")[0]
    draft.layout = layout
    assert draft.as_json()["grid"] == {"first": 3, "rows": 2, "columns": 2, "order": [3, 1, 4, 2]}


def test_a_picture_between_words_is_both():
    layout = TokenLayout({"text": 2, "image": 4, "text_2": 1}, {"image": (2, 2)})
    assert sheet_of(layout)["kind"] == "both"
    spelled = TokenLayout(layout.spans, layout.grids, ("Ġa", "Ġcat", "", "", "", "", "Ġ!"))
    sheet = sheet_of(spelled)
    assert sheet["tokens"][2] == {"text": "", "space": False, "name": "row 1, column 1"}
    assert [word["text"] for word in sheet["words"]] == ["a", "cat", "!"]
    assert sheet["words"][2] == {"text": "!", "first": 6, "count": 1}


def test_a_sound_is_one_row_of_frames():
    layout = TokenLayout.audio(5, 0.5, padding=3)
    sheet = sheet_of(layout)
    assert (sheet["kind"], sheet["count"], sheet["special"]) == ("picture", 8, [5, 6, 7])
    assert sheet["grid"] == {"first": 0, "rows": 1, "columns": 5, "order": None}
    assert [token["name"] for token in sheet["tokens"]][2:6] == ["1.00 s", "1.50 s", "2.00 s", "padding"]
    assert sheet["words"] == []


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["[CLS]", "the", "tok", "##en", "##izer", "s", "[SEP]"], ["[CLS]", "the", "tokenizer", "s", "[SEP]"]),
        (["Ġthe", "Ġtok", "en", "izer", ",", "Ġyes", "."], ["the", "tokenizer", ",", "yes", "."]),
        (["▁it", "'", "s", "▁a", "▁ca", "t"], ["it's", "a", "cat"]),
        (["▁", "猫", "が", "好", "き"], ["␣", "猫", "が", "好", "き"]),
        (["▁a", "<0xE7>", "<0x8C>", "<0xAB>", "▁b"], ["a", "猫", "b"]),
        (["Ġsch", "Ã¶", "n"], ["schön"]),
        (["▁при", "вет", "▁мир"], ["привет", "мир"]),
        (["▁حا", "سوب"], ["حاسوب"]),
        (["<s>", "▁x", "</s>"], ["<s>", "x", "</s>"]),
    ],
)
def test_words_are_put_together_from_their_pieces(tokens, words):
    layout = TokenLayout.text(
        tokens, [i for i, t in enumerate(tokens) if t[0] + t[-1] in ("[]", "<>") and "0x" not in t]
    )
    shown = tokens_json(layout)
    found = words_json(shown, layout.special)
    assert [word["text"] for word in found] == words
    assert sum(word["count"] for word in found) == len(tokens)


HOSTILE = [
    "</script>", "<!--", "a\u2028b", "\u202eevil", "\ud800", "x\udfffy", "\x00", "\n", "\u200b", "\x1b[31m", "é" * 5,
    "'\"\\", "{layer}", "z" * 1_000_000,
]  # fmt: skip


def test_hostile_tokens_are_text_that_reads_back():
    layout = TokenLayout.text(HOSTILE)
    index, _ = build(tr.observe(chain(layout)), sources=["\ud800'\"\u2028" + "y" * 5000])
    assert json.loads(as_json(index)) == index
    tokens = index["sheets"][0]["tokens"]
    assert all(len(token["text"]) <= 400 and token["text"].isprintable() for token in tokens)
    assert [token["text"] for token in tokens][:6] == [
        "</script>", "<!--", "a⟨U+2028⟩b", "⟨U+202E⟩evil", "⟨U+D800⟩", "x⟨U+DFFF⟩y",
    ]  # fmt: skip
    assert all(line.isprintable() for line in [*index["python"], index["cure"], index["title"]])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8) | st.text(alphabet="▁Ġ#</w>ab猫ل\ud800", max_size=6), min_size=1, max_size=12))
def test_any_strings_make_words_that_cover_all_tokens(strings):
    layout = TokenLayout.text(strings)
    shown = tokens_json(layout)
    assert shown is not None
    words = words_json(shown, [])
    assert [i for word in words for i in range(word["first"], word["first"] + word["count"])] == list(
        range(len(strings))
    )
    json.loads(json.dumps([shown, words]))


@pytest.mark.parametrize("source", ['cat\'s "1".jpg', "a b.jpg", "\u202ecat.jpg", "c\udce9t.jpg", "-x.jpg"])
def test_lines_make_the_observation_again(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        (tmp_path / source).write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("no file can be called so here")
    (known,) = named(
        [tr.observe(chain(TokenLayout.image(2, 2)))], [source], {"model": "m'x", "size": 448, "kind": None}
    )
    assert known.name == tr.errors.escaped(source)
    assert all(line.isprintable() for line in known.lines)
    heard: list[Any] = []

    class Recorded:
        def observe(self, *given: Any, **options: Any) -> None:
            heard.append((given, options))

    exec("\n".join(known.lines[1:]), {"tr": Recorded()})
    assert heard == [((source,), {"model": "m'x", "size": 448})]
    assert shlex.split(cure_of([known, known]))[2:4] == ["./" * (source[0] == "-") + tr.errors.escaped(source)] * 2
    assert cure_of([known]).endswith("--size 448 --layers {layer} --heads {head} --out page.html")


def sample_of(one: tr.Observation) -> Named:
    return named([one], [tr.samples.path("chelsea")], {})[0]


def test_lines_of_texts_and_of_what_has_no_name():
    one = tr.observe(chain(TokenLayout.image(2, 2)))
    (short,) = named([one], ["two\nlines"], {})
    assert short.lines[1] == "obs = tr.observe('two\\nlines')"
    assert short.name == "two lines"
    (long,) = named([one], ["x" * 4000 + " y"], {"model": "m"})
    assert long.lines[1:] == (
        "text = ...  # the text of this page, 4,002 characters",
        "obs = tr.observe(text, model='m')",
    )
    (nothing,) = named([one], None, {})
    assert nothing.lines[1].startswith("obs = ...  #")
    assert cure_of([sample_of(one), nothing]) == "tr.explore(obs, layers=[{layer}], heads=[{head}])"
    (array,) = named([one], [np.zeros((4, 4, 3))], {})
    assert "ndarray" in array.lines[1]
    (sample,) = named([one], [tr.samples.path("chelsea")], {})
    assert sample.lines[1] == "obs = tr.observe(tr.samples.path('chelsea'))"
    with pytest.raises(tr.errors.InputError, match="2 sources of 1"):
        named([one], ["a", "b"], {})


def test_a_video_and_several_pictures_are_refused_with_what_helps():
    with pytest.raises(tr.errors.LayoutError, match="give one of its frames"):
        sheet_of(TokenLayout.video(2, 2, 2))
    several = TokenLayout({"image": 4, "image_2": 4}, {"image": (2, 2), "image_2": (2, 2)})
    with pytest.raises(tr.errors.InputError, match="give the model one picture"):
        sheet_of(several)


def test_a_picture_and_a_text_read_by_tiny_models(tmp_path):
    picture = tr.observe(tr.samples.path("coffee"), model=str(save_vit(tmp_path / "vit")))
    text = tr.observe(SENTENCE, model=str(save_bert(tmp_path / "bert")))
    index, parts = build([picture, text], sources=["coffee.jpg", SENTENCE])
    first, second = index["sheets"]
    assert (first["name"], first["kind"], second["kind"]) == ("coffee.jpg", "picture", "text")
    assert index["title"] == "coffee.jpg and 1 more"
    assert index["python"].count("import tokenrank as tr") == 2
    at = first["picture"]["bytes"][0]
    assert parts[0][at : at + 2] == b"\xff\xd8"
    assert [token["text"] for token in second["tokens"]] == ["[CLS]", *SENTENCE.split(), "[SEP]"]
    assert second["special"] == [0, 11]
    json.loads(as_json(index))


def test_a_letter_that_was_cut_keeps_the_word_before_it():
    """Byte-level pieces of "القديم": ال, the two bytes of ق, ديم."""
    shown = [{"text": text, "space": i == 0, "name": text} for i, text in enumerate(["ال", "ق 1/2", "ق 2/2", "ديم"])]
    assert words_json(shown, []) == [{"text": "القديم", "first": 0, "count": 4}]
    assert words_json(shown[1:], []) == [{"text": "قديم", "first": 0, "count": 3}]
