"""Loading by name: folders written here, the bundled model, timm; and everything that can be wrong."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import save_file

import tokenrank as tr
from tokenrank import samples
from tokenrank.errors import InputError, MissingExtraError, NotFoundError, TokenRankError
from tokenrank.layout import TokenLayout
from tokenrank.models import find_layout, load, text_layout
from tokenrank.recording import Evidence

from .cases import PICTURE, TINY, WORDS, Seen

Save = Callable[..., Path]
Watch = Callable[..., Seen]
PROCESSOR = {
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "size": {"height": 64, "width": 64},
    "resample": 2,
}


def dinov3() -> Any:
    return tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**TINY, **PICTURE, num_register_tokens=4))


def refused(error: type[TokenRankError], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 900
    return message


# -------------------------------------------------------------------------------------- pictures


def test_a_half_precision_folder(save: Save, watch: Watch) -> None:
    original = dinov3()
    folder = save(original.half(), PROCESSOR)
    save_file({"cls.weight": torch.zeros(2, 32)}, folder / "heads.safetensors")  # no part of the network
    model = load(folder)
    assert model.kind == "image"
    assert model.attention == "sdpa"
    assert not model.module.training
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    torch.testing.assert_close(model.module.state_dict(), {k: v.float() for k, v in original.state_dict().items()})

    inputs = model.prepare(samples.path("coffee"))  # 480 × 320
    assert inputs["pixel_values"].shape == (1, 3, 40, 64)
    seen = watch(model.module, **inputs)
    layout = find_layout(
        model.module, seen.num_tokens, Evidence({"pixel_values": inputs["pixel_values"].shape}, seen.grids)
    )
    assert layout == model.layout_for(inputs) == TokenLayout.image(5, 8, registers=4)
    assert model.forward(inputs).last_hidden_state.shape == (1, 45, 32)
    assert not model.forward(inputs).last_hidden_state.requires_grad


def test_size_at_load_and_at_prepare(save: Save) -> None:
    folder = save(dinov3(), PROCESSOR)
    model = load(folder, size=96)
    assert model.prepare(samples.path("rocket"))["pixel_values"].shape == (1, 3, 64, 96)
    assert model.prepare(samples.path("rocket"), size=32)["pixel_values"].shape == (1, 3, 24, 32)
    assert "size = 0" in refused(InputError, folder, size=0)
    with pytest.raises(InputError, match="16,384 is the most"):
        model.prepare(samples.path("astronaut"), size=4096)
    with pytest.raises(InputError, match="no file"):
        model.prepare("nowhere.png")


@pytest.mark.parametrize("name", ["ViT", "DeiT", "Beit", "Dinov2", "CLIPVision", "SiglipVision", "ViTMAE"])
def test_any_aspect_ratio(name: str, save: Save, watch: Watch) -> None:
    model = load(save(getattr(tf, f"{name}Model")(getattr(tf, f"{name}Config")(**TINY, **PICTURE)), PROCESSOR))
    for sample, grid in (("coffee", (5, 8)), ("astronaut", (8, 8))):
        inputs = model.prepare(samples.path(sample))
        seen = watch(model.module, **inputs)
        layout = find_layout(model.module, seen.num_tokens, Evidence(inputs, seen.grids))
        assert layout == model.layout_for(inputs)
        assert layout is not None
        assert layout.grids == {"image": grid}


def test_the_native_size_takes_the_model_s_own_path(save: Save) -> None:
    model = load(save(tf.ViTModel(tf.ViTConfig(**TINY, **PICTURE)), PROCESSOR), size=32)
    assert "interpolate_pos_encoding" not in model.prepare(samples.path("astronaut"))
    assert model.prepare(samples.path("coffee"))["interpolate_pos_encoding"] is True


def test_positions_that_nothing_resizes(save: Save, watch: Watch) -> None:
    config = tf.SamVisionConfig(
        **{**TINY, "mlp_dim": 64},
        image_size=64,
        patch_size=8,
        output_channels=16,
        window_size=0,
        global_attn_indexes=[],
    )
    model = load(save(tf.SamVisionModel(config), PROCESSOR))
    inputs = model.prepare(samples.path("coffee"))
    assert inputs["pixel_values"].shape == (1, 3, 64, 64)
    model.forward(inputs)
    with pytest.raises(InputError, match="reads 64 × 64 only"):
        model.prepare(samples.path("coffee"), size=96)


def test_eager_on_request(save: Save) -> None:
    assert load(save(dinov3(), PROCESSOR), attention="eager").attention == "eager"


def test_a_model_that_refuses_sdpa(save: Save, tokenizer: Any) -> None:
    config = tf.DebertaV2Config(**TINY, vocab_size=len(WORDS), max_position_embeddings=16)
    model = load(save(tf.DebertaV2Model(config), tokenizer=tokenizer))
    assert model.attention == "eager"
    assert model.forward(model.prepare("the cat")).last_hidden_state.shape == (1, 4, 32)


def test_no_preprocessor_config(save: Save) -> None:
    assert "has no preprocessor_config.json" in refused(InputError, save(dinov3()))


def test_weights_that_do_not_belong(save: Save) -> None:
    folder = save(dinov3(), PROCESSOR)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    message = refused(InputError, folder)
    assert "lack" in message
    assert "would be random" in message


def test_dual_encoders(save: Save, tokenizer: Any, watch: Watch) -> None:
    text = {**TINY, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 2}
    clip = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config={**TINY, **PICTURE}))
    folder = save(clip, PROCESSOR, tokenizer)
    sees = load(folder)
    assert sees.kind == "image"
    inputs = sees.prepare(samples.path("coffee"))
    seen = watch(sees.module, **inputs)
    assert find_layout(sees.module, seen.num_tokens, Evidence(inputs, seen.grids)) == TokenLayout.image(5, 8)
    reads = load(folder, kind="text")
    assert reads.kind == "text"
    tokens = reads.prepare("the cat sat")
    assert reads.forward(tokens).last_hidden_state.shape == (1, 5, 32)


# ------------------------------------------------------------------------------------------ text


GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16}


def bert() -> Any:
    return tf.BertModel(tf.BertConfig(**TINY, vocab_size=len(WORDS), max_position_embeddings=12))


def test_text(save: Save, tokenizer: Any, watch: Watch) -> None:
    model = load(save(bert(), tokenizer=tokenizer))
    assert (model.kind, model.max_tokens) == ("text", 12)
    inputs = model.prepare("the cat sat unseen on mats")
    layout = model.layout_for(inputs)
    strings = ("[CLS]", "the", "cat", "sat", "un", "##seen", "on", "mat", "##s", "[SEP]")
    assert layout == TokenLayout({"text": 10}, {}, strings, (0, 9))
    seen = watch(model.module, **inputs)
    assert find_layout(model.module, seen.num_tokens, Evidence(inputs, seen.grids)) == TokenLayout({"text": 10})


@pytest.mark.parametrize("build", [bert, lambda: tf.GPT2Model(tf.GPT2Config(**GPT2, vocab_size=len(WORDS)))])
def test_the_layout_of_a_text_is_that_of_its_capture(build: Any, save: Save, tokenizer: Any) -> None:
    model = load(save(build(), tokenizer=tokenizer))
    inputs = model.prepare("the cat sat")
    with tr.capture(model) as trace:
        model.forward(inputs)
    layout = trace[0].layout
    assert layout == model.layout_for(inputs) == text_layout(tokenizer, inputs["input_ids"])
    assert layout is not None
    assert (layout.indices("special"), layout.indices("content")) == ([0, 4], [1, 2, 3])


def test_bad_texts(save: Save, tokenizer: Any) -> None:
    model = load(save(bert(), tokenizer=tokenizer))
    for text, words in [
        ("", "the text is empty"),
        (" \n\t", "the text is empty"),
        ("cat " * 11, "has 13 tokens, model .* reads 12 at most; shorten it"),
        ("bad \ud800 surrogate", "valid Unicode"),
    ]:
        with pytest.raises(InputError, match=words):
            model.prepare(text)
    for other in (None, 3, ["the cat", "sat"], b"cat", samples.path("coffee")):
        with pytest.raises(InputError, match=r"reads one text \(str\), not"):
            model.prepare(other)
    with pytest.raises(InputError, match="reads text; leave size out"):
        model.prepare("the cat", size=224)


@pytest.mark.parametrize("text", ["\0", "\x1b[31mred", "‮abc", "a" * 3000, "<script>alert(1)</script>", "🏳️‍🌈"])
def test_hostile_texts_are_tokens_like_any_other(text: str, save: Save, tokenizer: Any) -> None:
    tokenizer.model_max_length = 10_000
    config = tf.BertConfig(**TINY, vocab_size=len(WORDS), max_position_embeddings=4000)
    model = load(save(tf.BertModel(config), tokenizer=tokenizer))
    layout = model.layout_for(model.prepare("the " + text))
    assert layout is not None
    assert layout.tokens is not None
    assert layout.tokens[:2] == ("[CLS]", "the")


def test_roberta_counts_positions_after_padding(save: Save, tokenizer: Any) -> None:
    config = tf.RobertaConfig(**TINY, vocab_size=len(WORDS), max_position_embeddings=10, pad_token_id=3)
    model = load(save(tf.RobertaModel(config), tokenizer=tokenizer))
    assert model.max_tokens == 6
    model.forward(model.prepare("cat " * 4))
    with pytest.raises(InputError, match="has 7 tokens"):
        model.prepare("cat " * 5)


def test_encoder_decoders_give_their_encoder(save: Save, tokenizer: Any) -> None:
    config = tf.T5Config(
        vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    model = load(save(tf.T5Model(config), tokenizer=tokenizer))
    assert model.forward(model.prepare("the cat")).last_hidden_state.shape == (1, 4, 32)


def test_a_decoder(save: Save, tokenizer: Any, watch: Watch) -> None:
    config = tf.GPT2Config(**GPT2, vocab_size=len(WORDS))
    model = load(save(tf.GPT2Model(config), tokenizer=tokenizer))
    inputs = model.prepare("the cat")
    assert watch(model.module, **inputs).num_tokens == len(model.layout_for(inputs).tokens)  # type: ignore[union-attr]


def test_the_wrong_kind(save: Save, tokenizer: Any) -> None:
    folder = save(bert(), tokenizer=tokenizer)
    assert "reads text, but kind='image' was asked" in refused(InputError, folder, kind="image")


def test_no_tokenizer(save: Save) -> None:
    assert "has no tokenizer" in refused(InputError, save(bert()))


def test_no_feature_extractor(save: Save) -> None:
    config = tf.ASTConfig(**TINY, patch_size=8, max_length=32, num_mel_bins=16)
    folder = save(tf.ASTModel(config))
    message = refused(InputError, folder)
    assert "has no feature extractor of sounds" in message
    assert "feature_extractor.save_pretrained" in message
    tf.ASTFeatureExtractor(num_mel_bins=16, max_length=32).save_pretrained(folder)
    assert tr.load(folder).kind == "audio"


def test_what_is_neither_picture_text_nor_sound(save: Save) -> None:
    config = tf.TimesFmConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, head_dim=16
    )
    assert "neither pictures nor text nor sounds" in refused(InputError, save(tf.TimesFmModel(config)))


# ------------------------------------------------------------------------------------------ names


def test_unknown_names() -> None:
    message = refused(NotFoundError, "someone/no-such-model")
    assert "'someone/no-such-model' is not on this machine, and the Hugging Face hub cannot be reached" in message
    assert "did you mean 'bundled'" in refused(NotFoundError, "bundeld")
    for name in ("no such model", "a/b/c", "model?", "猫", "a\0b", "x\ny"):
        assert "expected 'bundled', a folder" in refused(NotFoundError, name)
    assert "empty" in refused(InputError, " ")


def test_paths_that_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "vit-small").mkdir()
    assert "'vit-small'" in refused(NotFoundError, tmp_path / "vit-smal")
    assert "has no config.json (it holds nothing)" in refused(InputError, tmp_path / "vit-small")
    (tmp_path / "weights.bin").write_bytes(b"x")
    assert "is a file; give the folder" in refused(InputError, tmp_path / "weights.bin")
    assert "it holds 'vit-small', 'weights.bin'" in refused(InputError, tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("", "is empty (0 bytes)"),
        ("{", "is not valid JSON"),
        ("[]", "names neither"),
        ("{}", "names neither"),
        ('{"model_type": 3}', "names neither"),
        ('{"model_type": "no_such_type"}', "cannot be loaded"),
        ('{"model_type": "vit"}', "cannot be loaded"),
    ],
)
def test_bad_configs(config: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    assert words in refused(InputError, tmp_path)


def test_broken_weights(save: Save) -> None:
    folder = save(dinov3(), PROCESSOR)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "cannot be loaded" in refused(InputError, folder)


def test_nothing_is_left_quiet(save: Save) -> None:
    """Loading silences transformers for its own time only."""
    from transformers.utils import logging as reports

    reports.set_verbosity_info()
    try:
        load(save(dinov3(), PROCESSOR))
        assert reports.get_verbosity() == reports.INFO
        assert reports.is_progress_bar_enabled()
    finally:
        reports.set_verbosity_warning()


def test_loading_prints_nothing(save: Save, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save(dinov3(), PROCESSOR)
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_the_bundled_model(watch: Watch) -> None:
    model = load()
    assert (model.name, model.kind, model.attention) == ("bundled", "image", "sdpa")
    inputs = model.prepare(samples.path("coffee"))
    assert max(inputs["pixel_values"].shape) == 192
    seen = watch(model.module, **inputs)
    layout = find_layout(
        model.module, seen.num_tokens, Evidence({"pixel_values": inputs["pixel_values"].shape}, seen.grids)
    )
    assert layout == model.layout_for(inputs)
    assert layout is not None
    rows, columns = layout.grids["image"]
    assert columns > rows
    assert (layout.spans["cls"], layout.spans["registers"]) == (1, 4)


class _Hub(http.server.BaseHTTPRequestHandler):
    """A hub that has nothing, and keeps one model behind a gate."""

    def do_HEAD(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, *args: Any) -> None:
        """Nothing: the test's output is for failures."""


def test_what_an_online_hub_answers(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
from tokenrank.models import load
for name in ("someone/missing", "someone/gated", "bundeld"):
    try:
        load(name)
    except Exception as error:
        print(type(error).__name__, error)
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "TRANSFORMERS_OFFLINE": "0",
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    server.shutdown()
    missing, gated, near = ran.stdout.splitlines()
    assert missing.startswith("NotFoundError no model 'someone/missing' on the Hugging Face hub; check the spelling")
    assert gated.startswith("NotFoundError model 'someone/gated' is gated; accept its terms")
    assert "hub; did you mean 'bundled'?; check" in near


# ------------------------------------------------------------------------------------------- timm


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what an import of a missing package meets
    assert "pip install 'tokenrank[timm]'" in refused(MissingExtraError, "timm:vit_tiny_patch16_224")


@pytest.fixture
def timm_folder(tmp_path: Path) -> Path:
    timm = pytest.importorskip("timm")
    size = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": 64, "num_classes": 0}
    model = timm.create_model("vit_tiny_patch16_224", **size)
    timm.models.save_for_hf(model, tmp_path / "timm", model_args=size, safe_serialization=True)
    return tmp_path / "timm"


@pytest.mark.parametrize("prefix", ["", "timm:local-dir:"])
def test_timm(prefix: str, timm_folder: Path, watch: Watch) -> None:
    model = load(f"{prefix}{timm_folder}", size=96)
    inputs = model.prepare(samples.path("coffee"))
    assert inputs["x"].shape == (1, 3, 64, 96)
    seen = watch(model.module, **inputs)
    layout = find_layout(model.module, seen.num_tokens, Evidence({"x": inputs["x"].shape}, seen.grids))
    assert layout == model.layout_for(inputs) == TokenLayout.image(4, 6)
    assert model.forward(inputs).shape == (1, 32)


def test_timm_names() -> None:
    pytest.importorskip("timm")
    assert "nearest: 'vit_base_patch16_224'" in refused(NotFoundError, "timm:vit_base_patch16_242")
    assert "the Hugging Face hub cannot be reached" in refused(NotFoundError, "timm:vit_tiny_patch16_224")
    assert "the Hugging Face hub cannot be reached" in refused(NotFoundError, "timm/no_such")
    assert "reads pictures" in refused(InputError, "timm:vit_tiny_patch16_224", kind="text")


# ------------------------------------------------------------------------------------- classifiers


def test_the_bundled_classifier() -> None:
    model = load(size=64)
    inputs = model.prepare(samples.path("coffee"))
    logits = model.logits(inputs)
    assert logits.shape == (1, 200)
    assert logits.requires_grad
    torch.testing.assert_close(logits.detach(), model.classify(model.forward(inputs)))


def test_a_classifier_of_transformers(save: Save) -> None:
    network = tf.ViTForImageClassification(tf.ViTConfig(**TINY, **PICTURE, num_labels=7))
    folder = save(network, PROCESSOR)
    model = load(folder, head=True)
    inputs = model.prepare(samples.path("coffee"), 64)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(inputs), network.eval()(**inputs).logits)


def test_no_classifier(save: Save) -> None:
    model = load(save(dinov3(), PROCESSOR))
    with pytest.raises(InputError, match="head=True"):
        model.logits(model.prepare(samples.path("coffee")))


def test_weights_are_the_same_at_every_load(save: Save) -> None:
    network = tf.ViTForImageClassification(tf.ViTConfig(**TINY, **PICTURE, num_labels=7))  # has no pooler
    folder = save(network, PROCESSOR)
    torch.testing.assert_close(load(folder).module.state_dict(), load(folder).module.state_dict(), rtol=0, atol=0)
