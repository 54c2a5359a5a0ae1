"""``tr.observe``: what can be read, and one sentence with the cure for what cannot."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import tokenrank as tr
from tests.tiny import SENTENCE, save_albert, save_bert, save_gpt2, save_vit
from tokenrank import samples
from tokenrank.errors import CaptureError, InputError, LayoutError, NotFoundError
from tokenrank.models.texts import reads_as_text

COFFEE = samples.path("coffee")


@pytest.fixture(scope="module")
def bundled() -> tr.Model:
    return tr.load("bundled", size=64)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tr.Model:
    return tr.load(save_bert(tmp_path_factory.mktemp("bert")))


def same(a: tr.Observation, b: tr.Observation) -> None:
    torch.testing.assert_close(a.chain(2).to_dense(), b.chain(2).to_dense(), rtol=1e-5, atol=1e-7)


def test_every_way_to_one_picture_gives_the_same_chain(bundled: tr.Model) -> None:
    reference = tr.observe(COFFEE, bundled)
    picture = PIL.Image.open(COFFEE).convert("RGB")
    for source in (str(COFFEE), Path(COFFEE), picture, np.asarray(picture)):
        same(tr.observe(source, bundled), reference)
    inputs = bundled.prepare(picture)
    same(tr.observe(bundled, inputs=inputs, image=picture), reference)
    same(tr.observe(bundled.module, inputs=inputs), reference)
    same(tr.observe(bundled.module, inputs=inputs["pixel_values"]), reference)
    same(tr.observe(bundled.module, inputs=(inputs["pixel_values"],)), reference)
    same(tr.observe(reference.trace, image=picture), reference)
    chain = tr.observe(reference.trace[2])
    torch.testing.assert_close(chain.chain().to_dense(), reference.chain(2).to_dense(), rtol=1e-5, atol=1e-7)
    assert tr.observe(reference) is reference


def test_the_size_of_the_picture(bundled: tr.Model) -> None:
    picture = PIL.Image.open(COFFEE)
    inputs = bundled.prepare(picture)
    seen = tr.observe(picture, bundled)
    assert seen.size == (picture.height, picture.width)
    assert tr.observe(bundled, inputs=inputs).size == tuple(inputs["pixel_values"].shape[-2:])
    assert tr.observe(seen.trace).size == seen.grid
    assert tr.observe(seen.trace, image=picture).size == seen.size


def test_texts(bert: tr.Model) -> None:
    seen = tr.observe(SENTENCE, bert)
    assert seen.modality == "text"
    assert seen.layout.tokens == ("[CLS]", *SENTENCE.split(), "[SEP]")
    assert seen.chain().num_tokens == seen.chain(tokens="content").num_tokens == 10
    assert seen.chain().layout == tr.TokenLayout.text(SENTENCE.split())
    assert "layer 2 of 0–2" in seen.describe()
    assert seen.describe().endswith("tokens content")
    dense = seen.trace[1][0].to_dense().double().mean(0)
    torch.testing.assert_close(seen.chain(1, "uniform", "all").to_dense(), dense, rtol=1e-5, atol=1e-7)


def test_a_text_module_with_its_inputs(bert: tr.Model) -> None:
    seen = tr.observe(bert.module, inputs=bert.prepare(SENTENCE))
    assert seen.modality == "text"  # and without a tokenizer nobody knows which tokens are special
    assert seen.chain(0).num_tokens == 12
    whole = tr.observe(SENTENCE, bert).chain(0, tokens="all")
    torch.testing.assert_close(seen.chain(0).to_dense(), whole.to_dense())


@pytest.mark.parametrize(
    "text",
    ["The cat sat on the mat", "cat mat", " a\tb ", "He runs Node.js", "One is 2.5 more", "see https://example.org now",
     "either/or, I think", "x " * 3000, "nul \0 byte"],
)  # fmt: skip
def test_strings_that_are_texts(text: str) -> None:
    assert reads_as_text(text)


@pytest.mark.parametrize(
    "source",
    ["cat.jpg", "my cat.jpg", "my cat.JPEG ", "a/my cat.png", "my clip.mp4", "my voice.wav", "a drawing.svg", "word",
     " word ", "", "  ", Path("my cat"), b"my cat", None, 3],
)  # fmt: skip
def test_sources_that_are_no_texts(source: Any) -> None:
    assert not reads_as_text(source)


def test_a_file_with_spaces_in_its_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PIL.Image.open(COFFEE).save(tmp_path / "a cup of coffee", "png")
    assert not reads_as_text("a cup of coffee")
    assert tr.observe("a cup of coffee", size=64).modality == "image"
    assert tr.observe("a cup of tea").modality == "text"
    assert tr.observe("a cup of coffee", kind="text").layout.num_tokens == 6


@pytest.mark.parametrize("name", ["my cat.jpg", "my folder/my cat.jpg"])
def test_a_picture_that_is_missing_is_no_text(name: str) -> None:
    with pytest.raises(InputError, match=f"no file '{name}'.*if it is a text, say so"):
        tr.observe(name)


def test_a_picture_that_is_missing_is_looked_for_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my cat.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no file 'my cta\.png'; in its folder, nearest: 'my cat\.png'; if it is"):
        tr.observe("my cta.png")


def test_a_text_that_ends_like_a_sound() -> None:
    assert tr.observe("they listened to a.wav", kind="text").modality == "text"
    with pytest.raises(InputError, match="no bundled network reads sounds"):
        tr.observe("they listened to a.wav")
    with pytest.raises(InputError, match="no bundled network reads sounds"):
        tr.observe(torch.zeros(100), rate=100)
    with pytest.raises(InputError, match="no bundled model reads sounds; name one"):
        tr.load(kind="audio")


def test_a_file_of_text_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the cat sat")
    with pytest.raises(InputError, match=r"is a file of text; give what is in it: tr\.observe\(open\(path\)\.read\(\)"):
        tr.observe(tmp_path / "notes.txt")


def test_a_sound_for_a_model_of_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a sound, and model .* reads text; name one that reads sounds"):
        tr.observe(tr.Sound(torch.zeros(100), 100), tr.load(save_gpt2(tmp_path)))


def test_a_script_that_the_model_cannot_read() -> None:
    with pytest.warns(UserWarning, match="4 of 4 tokens of the text are unknown to model 'bundled'"):
        tr.observe("القط جلس على الحصيرة")
    assert tr.observe("the cat sat on the 猫").chain().num_tokens == 6


def test_the_default_model_reads_what_it_is_given() -> None:
    seen = tr.observe("The cat sat on the mat")
    assert (seen.modality, seen.name, seen.chain().num_tokens) == ("text", "bundled", 6)
    assert tr.analyze("The cat sat on the mat").source == ("the", "cat", "sat", "on", "the", "mat")
    assert tr.observe("word", kind="text").chain().num_tokens == 1
    with pytest.raises(InputError, match="no file 'The cat sat on the mat'; in its folder"):
        tr.observe("The cat sat on the mat", kind="image")
    with pytest.raises(InputError, match=r"no file 'word'; if it is a text, say so: tr\.observe\(text, kind='text'\)"):
        tr.observe("word")
    with pytest.raises(InputError, match="is a file, and model 'bundled' reads text"):
        tr.observe(Path(COFFEE), kind="text")


def test_layers_that_share_a_module_are_told_apart(tmp_path: Path) -> None:
    first, second, third = tr.observe(SENTENCE, tr.load(save_albert(tmp_path))).layers
    assert (second, third) == (f"{first}#2", f"{first}#3")


def test_windows_are_one_chain_on_the_picture() -> None:
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    seen = tr.observe(SwinModel(config).eval(), inputs=torch.rand(1, 3, 32, 32))
    assert seen.grid == (8, 8)
    assert seen.chain(0).num_tokens == 64
    assert seen.chain(1).num_tokens == 16


def test_a_module_of_ones_own() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.block = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(picture).flatten(2).mT
            return self.block(tokens, tokens, tokens)[0]

    seen = tr.observe(Own().eval(), inputs=torch.rand(1, 3, 16, 24))
    assert seen.grid == (4, 6)
    assert seen.layers == ("block",)
    assert seen.chain().bounce(tr.at(0.5, 0.5), 2).grid().shape == (4, 6)


def test_a_trace_of_two_forwards(tmp_path: Path) -> None:
    model = tr.load(save_gpt2(tmp_path))
    with tr.capture(model) as trace:
        model.forward(model.prepare(SENTENCE))
        model.forward(model.prepare(SENTENCE))
    with pytest.raises(CaptureError, match=r"2 forward calls, expected one; take one with trace.select\(step=0\)"):
        tr.observe(trace)
    one = tr.observe(trace.select(step=1))
    torch.testing.assert_close(one.chain(0).to_dense(), tr.observe(SENTENCE, model).chain(0).to_dense())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.org/cat.jpg", "an address, and nothing is downloaded"),
        ("https://example.org/speech.wav", "an address, and nothing is downloaded"),
        ("clip.mp4", "a video; give one of its frames"),
        (
            "the cat sat on the mat",
            r"no file 'the cat sat on the mat'; if it is a text, say so: tr\.observe\(text, kind=",
        ),
        ("mat", r"no file 'mat'; if it is a text, say so: tr\.observe\(text, kind='text'\)"),
        ("no-such-file.jpg", "no file 'no-such-file.jpg'"),
        ([COFFEE, COFFEE], "one picture or text at a time"),
        ({"pixel_values": torch.rand(1, 3, 8, 8)}, "give the module with it"),
        (torch.rand(5, 3, 16, 16), "a batch or a video"),
        (object(), "the source is 'object', expected a picture"),
        (None, "the source is 'NoneType', expected a picture"),
    ],
)
def test_sources_that_cannot_be_read(bundled: tr.Model, source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        tr.observe(source, bundled)


def test_a_folder(bundled: tr.Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; give the path of one picture in it"):
        tr.observe(tmp_path, bundled)


def test_modules_without_what_they_need(bundled: tr.Model, bert: tr.Model) -> None:
    with pytest.raises(InputError, match="was given no inputs"):
        tr.observe(bundled.module)
    with pytest.raises(InputError, match="was given nothing to look at"):
        tr.observe(bundled)
    with pytest.raises(InputError, match="does not say how a picture or a text is prepared"):
        tr.observe(COFFEE, bundled.module)
    with pytest.raises(InputError, match="inputs do not fit"):
        tr.observe(nn.Linear(2, 2), inputs=(torch.rand(2), torch.rand(2)))
    with pytest.raises(InputError, match=r"is a file, and model .* reads text"):
        tr.observe(str(COFFEE), bert)
    with pytest.raises(NotFoundError):
        tr.observe(COFFEE, "no-such-model")


def test_a_model_without_attention() -> None:
    seen = tr.observe(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), inputs=torch.rand(1, 3, 8, 8))
    with pytest.raises(CaptureError, match="attention"):
        seen.chain()


def test_chains_and_traces_that_do_not_say_enough(bundled: tr.Model) -> None:
    with pytest.raises(LayoutError, match="no layout; say which token is what"):
        tr.observe(tr.AttentionChain(torch.full((2, 4, 4), 0.25)))
    seen = tr.observe(tr.AttentionChain(torch.full((4, 4), 0.25)), layout=tr.TokenLayout.image(2, 2, cls_tokens=0))
    assert seen.grid == (2, 2)
    two = tr.AttentionChain(torch.full((2, 3, 4, 4), 0.25), tr.TokenLayout.image(2, 2, cls_tokens=0))
    with pytest.raises(CaptureError, match=r"leading dimensions.*; take one by indexing the chain"):
        tr.observe(two).chain()


def test_arguments_that_do_not_go_with_the_source(bundled: tr.Model) -> None:
    seen = tr.observe(COFFEE, bundled)
    for source in (seen, seen.trace, seen.trace[0]):
        with pytest.raises(InputError, match=r"size = 32 beside .* leave size out"):
            tr.observe(source, size=32)
    with pytest.raises(InputError, match="inputs= go with a module"):
        tr.observe(COFFEE, bundled, inputs={})
    with pytest.raises(InputError, match="image= goes with"):
        tr.observe(COFFEE, bundled, image=COFFEE)
    with pytest.raises(InputError, match="reads image, but kind='text'"):
        tr.observe(COFFEE, bundled, kind="text")


def test_a_vision_transformer_of_the_hub_format(tmp_path: Path) -> None:
    seen = tr.observe(COFFEE, save_vit(tmp_path), layers=[0, 1])
    assert len(seen.layers) == 2
    assert seen.chain().layout.grids  # type: ignore[union-attr]


def test_padding_of_one_text_is_dropped(bert: tr.Model) -> None:
    inputs = bert.prepare(SENTENCE)
    padded = {name: torch.cat([value, value.new_zeros(1, 3)], -1) for name, value in inputs.items()}
    seen = tr.observe(bert.module, inputs=padded)
    assert seen.chain(0).num_tokens == 12
    whole = tr.observe(SENTENCE, bert).chain(0, tokens="all")
    torch.testing.assert_close(seen.chain(0).to_dense(), whole.to_dense())
    assert tr.analyze(seen).chain.num_tokens == 12


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.drop = nn.Conv2d(3, 8, 4, 4), nn.Dropout(0.5)
        self.block = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        tokens = self.drop(self.patches(picture).flatten(2).mT)
        return self.block(tokens, tokens, tokens)[0]


def test_a_module_in_train_mode_is_told() -> None:
    with pytest.warns(UserWarning, match=r"train mode, with dropout or batch statistics in 'drop': what"):
        tr.observe(WithDropout(), inputs=torch.rand(1, 3, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tr.observe(nn.MultiheadAttention(8, 2).train(), inputs=[torch.rand(4, 1, 8)] * 3)  # no dropout: nothing random
        tr.observe(WithDropout().eval(), inputs=np.random.rand(1, 3, 16, 16).astype(np.float32)).chain()


def test_an_observed_chain_keeps_its_picture_and_its_words(bundled: tr.Model) -> None:
    chain = tr.observe(COFFEE, bundled).chain(1, "uniform")
    again = tr.observe(chain)
    assert again.picture is chain.picture
    assert "layer 1 of 0–11" in again.describe()
    assert "heads uniform" in again.describe()
    assert tr.tasks.segment(again, tr.at(0.5, 0.5)).labels.shape == (again.picture.height, again.picture.width)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": 2.5}, "size = 2.5, expected the long side in whole pixels"),
        ({"size": True}, "size = True"),
        ({"size": 0}, "size = 0"),
        ({"layout": "rows"}, "layout is 'rows', expected a TokenLayout"),
    ],
)
def test_arguments_of_another_kind(bundled: tr.Model, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tr.observe(COFFEE, bundled, **given)


def test_a_model_that_is_no_name() -> None:
    with pytest.raises(InputError, match="the model's name is 3"):
        tr.observe(COFFEE, 3)  # type: ignore[arg-type]


def test_windows_have_no_features_on_one_grid() -> None:
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
    seen = tr.observe(SwinModel(config).eval(), inputs=torch.rand(1, 3, 32, 32))
    with pytest.raises(CaptureError, match="within windows"):
        seen.features(0)
    assert tr.baselines.column_sum(seen, layer=0).grid().shape == (8, 8)
    assert tr.baselines.tokenrank(seen).grid().shape == (4, 4)


def test_an_unknown_option_is_named_wherever_it_was_given(bundled: tr.Model) -> None:
    seen = tr.observe(COFFEE, bundled)
    for ask in (tr.observe, tr.tasks.saliency, tr.tasks.cluster, tr.analyze):
        with pytest.raises(NotFoundError, match="no option 'sise'; nearest: 'size'"):
            ask(seen, sise=32)  # type: ignore[call-arg]
