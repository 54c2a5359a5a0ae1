"""A sound read by a model: frames with seconds, padding left out, words, cross-attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tokenrank as tr
from tokenrank.errors import CaptureError, InputError, LayoutError

from .speech import SAID, save_spectrogram_transformer, save_wav2vec2, tone

ENCODER, CROSS = "model.encoder.layers.1.self_attn", "model.decoder.layers.1.encoder_attn"


def test_load(whisper: tr.Model, whisper_folder: Path):
    assert whisper.kind == "audio"
    assert "sounds" in whisper._repr_html_()
    assert repr(tr.load(whisper_folder, kind="audio")).startswith("Model(")
    with pytest.raises(InputError, match="reads audio, but kind='text' was asked"):
        tr.load(whisper_folder, kind="text")
    with pytest.raises(InputError, match="size = 224 for model"):
        tr.load(whisper_folder, size=224)


@pytest.mark.parametrize("samples", [1, 320, 321, 16000, 19199, 19200, 19201, 32000])
def test_frames_of_the_sound_and_padding(whisper: tr.Model, samples: int):
    observation = tr.observe(torch.randn(samples) / 10, model=whisper, rate=16000, said="")
    frames = -(-samples // 320)
    layout = observation.trace.chain_of(observation.trace.records[0]).layout
    assert layout.spans == {"audio": frames} | ({"padding": 100 - frames} if frames < 100 else {})
    assert layout.seconds == {"audio": (0.0, 0.02)}
    assert observation.chain(0, "uniform").num_tokens == frames


def test_the_chain_is_the_models_own_attention(whisper: tr.Model, heard: tr.Observation):
    eager = tr.load(whisper.name, attention="eager")
    with torch.no_grad():
        right = eager.module(**heard.inputs, output_attentions=True)
    dense = heard.trace[ENCODER].to_dense()
    torch.testing.assert_close(dense, right.encoder_attentions[1], atol=2e-5, rtol=0)
    torch.testing.assert_close(heard.trace.cross(CROSS).weights, right.cross_attentions[1], atol=2e-5, rtol=0)
    inside = right.encoder_attentions[1][0, :, :60, :60].double()
    np.testing.assert_allclose(
        heard.head_chains(1).to_dense(), inside / inside.sum(-1, keepdim=True), atol=2e-5
    )  # padding is dropped as if it had been masked


def test_tokenrank_over_time_is_that_of_lapack(heard: tr.Observation):
    chain = heard.chain(1, "uniform")
    a = chain.to_dense().double().numpy()
    right = np.linalg.solve(np.eye(60) - 0.99 * a.T, np.full(60, 0.01 / 60))
    found = chain.tokenrank()
    np.testing.assert_allclose(found.values, right, atol=1e-7)
    assert found.layout.times()[-1] == pytest.approx(1.18)


def test_start_at_a_moment(heard: tr.Observation):
    chain = heard.chain(1, "uniform")
    found = chain.bounce(tr.at(seconds=0.71), n=2).values
    dense = chain.to_dense().double()
    torch.testing.assert_close(found.double(), (dense @ dense)[35], atol=1e-7, rtol=0)
    with pytest.raises(LayoutError, match=r"moment 1.2 s, but span 'audio' is from 0 to 1.2 s"):
        chain.bounce(tr.at(seconds=1.2))


def test_words(heard: tr.Observation):
    assert heard.transcript == SAID
    assert [word.text for word in heard.words] == SAID.split()
    assert heard.modality == "audio"
    assert heard.layers == ("model.encoder.layers.0.self_attn", ENCODER)
    assert heard.skipped["model.decoder.layers.0.self_attn"] == "its tokens hold no sound"


def test_own_transcript_is_what_the_model_generates(whisper: tr.Model):
    sound = tr.Sound(tone(1.0), 16000)
    ids = whisper.prepare(sound)["decoder_input_ids"]
    with torch.no_grad():
        features = whisper.sounds.inputs(sound, "")
        own = whisper.module.generate(**features, force_unique_generate_call=True, do_sample=False)
    end = whisper.module.config.eos_token_id
    assert ids[0].tolist() == own[0, : ids.shape[1]].tolist()
    assert own[0, ids.shape[1] :].tolist() in ([], [end]) or set(own[0, ids.shape[1] :].tolist()) <= {0, 1, 2}
    assert ids[0, 0] == whisper.module.config.decoder_start_token_id


def test_said_is_written_after_the_models_first_tokens(whisper: tr.Model):
    prepared = whisper.prepare(tr.Sound(tone(1.0), 16000), said="the cat")["decoder_input_ids"][0].tolist()
    assert whisper.tokenizer.convert_ids_to_tokens(prepared)[-2:] == ["Ġthe", "Ġcat"]
    assert prepared[0] == whisper.module.config.decoder_start_token_id
    with pytest.raises(InputError, match="writes 40 at most; shorten it"):
        whisper.prepare(tr.Sound(tone(1.0), 16000), said=SAID * 8)
    with pytest.raises(InputError, match="said is a int"):
        whisper.prepare(tr.Sound(tone(1.0), 16000), said=3)


def test_cross_attention_by_word(heard: tr.Observation):
    weights = torch.cat([heard.trace.cross(f"*layers.{i}.encoder_attn").weights[0] for i in range(2)]).double()
    inside = weights[..., :60] / weights[..., :60].sum(-1, keepdim=True)
    torch.testing.assert_close(heard.cross(of="heads").weights, inside)
    by_token = inside.mean(0)
    torch.testing.assert_close(heard.cross(of="tokens").weights, by_token)
    rows = torch.stack([by_token[[t - 1 for t in word.tokens]].mean(0) for word in heard.words])
    found = heard.cross()
    torch.testing.assert_close(found.weights, rows)
    assert found.rows.tokens == tuple(SAID.split())
    assert found.columns == tr.TokenLayout.audio(60, 0.02)
    torch.testing.assert_close(heard.cross([(1, 0)], of="tokens").weights, inside[2])
    for heads, words in (([(2, 0)], "below"), ([], "no heads"), ([(0, 5)], "below")):
        with pytest.raises(InputError, match=words):
            heard.cross(heads)
    with pytest.raises(InputError, match="of = 'word'"):
        heard.cross(of="word")


def test_alignment_heads_of_the_generation_config(whisper_folder: Path):
    model = tr.load(whisper_folder)
    model.module.generation_config.alignment_heads = [[0, 1], [1, 0]]
    observation = tr.observe(tr.Sound(tone(1.0), 16000), model=model, said="the cat")
    assert "2 alignment heads" in observation.cross().caption
    torch.testing.assert_close(observation.cross().weights, observation.cross([(0, 1), (1, 0)]).weights)
    assert observation.cross([(0, 0), (0, 1)]).caption.endswith("cross-attention of 2 heads")


def test_walks_from_every_word(heard: tr.Observation):
    chain, cross = heard.chain(1, "uniform"), heard.cross()
    found = chain.bounce(cross.weights, n=2).values
    dense = chain.to_dense().double()
    torch.testing.assert_close(found.double(), cross.weights @ dense @ dense, atol=1e-7, rtol=0)


def test_from_frames_to_words(heard: tr.Observation):
    chain, cross = heard.chain(1, "uniform"), heard.cross()
    joint = tr.bipartite(chain, cross, step=0.3)
    found = joint.absorption("text").values[:60]
    a, c = chain.to_dense().double().numpy(), cross.weights.numpy().T
    c = c / c.sum(1, keepdims=True)
    np.testing.assert_allclose(found, np.linalg.solve(np.eye(60) - 0.7 * a, 0.3 * c), atol=1e-7)
    assert joint.layout.tokens[60:] == tuple(SAID.split())
    relay = tr.bipartite(chain, cross, how="relay")
    np.testing.assert_allclose(relay.to_dense().sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize(("options", "words"), [({"rate": 8000}, "leave rate out"), ({"size": 224}, "reads audio")])
def test_options_of_something_else(whisper: tr.Model, options: dict[str, int], words: str):
    with pytest.raises(InputError, match=words):
        tr.observe(tr.Sound(tone(1.0), 16000), model=whisper, **options)


def test_options_of_sounds_for_a_picture():
    with pytest.raises(InputError, match=r"part = .* reads image; leave part out"):
        tr.observe(tr.samples.path("coffee"), part=(0, 30))


@pytest.mark.parametrize("source", [tr.Sound(tone(0.1), 16000), "speech.wav", Path("Speech.MP3")])
def test_no_bundled_network_reads_sounds(source: object):
    with pytest.raises(InputError, match="no bundled network reads sounds; name one"):
        tr.observe(source)


def test_longer_than_the_window(whisper: tr.Model, tmp_path: Path):
    soundfile.write(tmp_path / "long.wav", tone(2.5).numpy(), 16000)
    with pytest.raises(InputError, match=r"2.50 s long, model .* reads 2 s at once; take a part of it: part=\(0, 2\)"):
        tr.observe(tmp_path / "long.wav", model=whisper)
    assert tr.observe(tmp_path / "long.wav", model=whisper, part=(0.5, 2.5), said="").sound.seconds == 2


def test_resampled_for_the_model(whisper: tr.Model):
    high = tr.observe(tone(1.0, 96000)[:, None].repeat(1, 2), model=whisper, rate=96000, said="")
    low = tr.observe(tone(1.0), model=whisper, rate=16000, said="")
    difference = high.inputs["input_features"] - low.inputs["input_features"]
    assert difference.abs().mean() < 0.02


def test_wav2vec2(tmp_path: Path):
    model = tr.load(save_wav2vec2(tmp_path))
    observation = tr.observe(tone(1.0), model=model, rate=16000)
    assert observation.chain(0, "uniform").layout == tr.TokenLayout.audio(49, 0.02)  # no frame beyond the end
    assert not observation.has_words
    with pytest.raises(InputError, match="writes no text"):
        tr.observe(tone(1.0), model=model, rate=16000, said="the cat")
    with pytest.raises(InputError, match="writes no text"):
        observation.words  # noqa: B018


def test_spectrogram_read_as_a_picture(tmp_path: Path):  # 62 tokens, two less than its 64 bands
    model = tr.load(save_spectrogram_transformer(tmp_path))
    observation = tr.observe(tone(1.0), model=model, rate=16000)
    assert observation.modality == "audio"
    assert observation.chain(0, "uniform").layout.grids == {"image": (5, 12)}  # frequencies × time
    with pytest.raises(InputError, match=r"reads 1.28 s at once"):
        tr.observe(tone(1.5), model=model, rate=16000)


def test_a_folder_without_feature_extractor(whisper_folder: Path, tmp_path: Path):
    for file in whisper_folder.iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="no feature extractor of sounds that can be used"):
        tr.load(tmp_path)


def test_a_module_with_inputs_knows_frames_but_not_seconds(whisper: tr.Model, heard: tr.Observation):
    observation = tr.observe(whisper.module, inputs=dict(heard.inputs))
    assert observation.modality == "audio"
    assert observation.chain(0, "uniform").layout == tr.TokenLayout({"audio": 60})
    with pytest.raises(LayoutError, match=r"no span has seconds .*model of tr.load"):
        observation.chain(0, "uniform").bounce(tr.at(seconds=0.5))


def test_cross_attention_of_a_model_without_any():
    bert = tr.AttentionChain(torch.eye(3))
    with pytest.raises(LayoutError):
        tr.observe(bert)
    vision = tr.observe(tr.samples.path("coffee"))
    with pytest.raises(CaptureError, match="is among its own"):
        vision.trace.cross(0)
