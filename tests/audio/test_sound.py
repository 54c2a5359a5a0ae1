"""Sounds: files and arrays of every kind as one channel, and what cannot be one."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import tokenrank as tr
from tokenrank.errors import InputError, MissingExtraError
from tokenrank.models import read_sound

from .speech import tone


@pytest.mark.parametrize(
    ("name", "rate", "channels", "kind", "tolerance"),
    [
        ("8bit.wav", 16000, 1, "PCM_U8", 1 / 64),
        ("16bit.wav", 44100, 2, "PCM_16", 1e-4),
        ("24bit.flac", 96000, 2, "PCM_24", 1e-6),
        ("float.wav", 8000, 3, "FLOAT", 1e-7),
        ("speech.ogg", 48000, 1, "VORBIS", 0.1),
    ],
)
def test_files_are_one_channel(tmp_path: Path, name: str, rate: int, channels: int, kind: str, tolerance: float):
    wave = tone(0.5, rate).numpy()
    levels = np.linspace(0.5, 1, channels)
    soundfile.write(tmp_path / name, wave[:, None] * levels, rate, subtype=kind)
    sound = read_sound(tmp_path / name)
    assert sound.rate == rate
    assert sound.samples.dtype == torch.float32
    assert len(sound.samples) == len(wave)
    np.testing.assert_allclose(sound.samples, wave * levels.mean(), atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 44100, 96000, 22050])
def test_resampling_keeps_the_tone(rate: int):
    samples = torch.sin(2 * math.pi * 440 * torch.arange(rate).double() / rate).float()
    changed = tr.Sound(samples, rate).resampled(16000)
    assert (changed.rate, len(changed.samples)) == (16000, 16000)
    right = torch.sin(2 * math.pi * 440 * torch.arange(16000).double() / 16000)
    inside = slice(400, -400)  # the filter sees silence beyond the ends
    assert (changed.samples[inside] - right[inside]).abs().max() < 2e-3


def test_a_tone_above_half_of_the_new_rate_goes():
    samples = torch.sin(2 * math.pi * 20000 * torch.arange(96000) / 96000).float()
    assert tr.Sound(samples, 96000).resampled(16000).samples[400:-400].abs().max() < 1e-2


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 16384, -32768], dtype=np.int16), [0, 0.5, -1]),
        (np.array([128, 255, 0], dtype=np.uint8), [0, 1, -128 / 127]),
        (np.array([0.25, -0.5], dtype=np.float64), [0.25, -0.5]),
        (np.array([0.25, -0.5], dtype=">f4"), [0.25, -0.5]),
        (np.array([0, 16384], dtype=">i2"), [0, 0.5]),
        (torch.tensor([0.25, -0.5], dtype=torch.float16), [0.25, -0.5]),
    ],
)
def test_arrays(samples: np.ndarray | torch.Tensor, expected: list[float]):
    np.testing.assert_allclose(read_sound(samples, 16000).samples, expected, atol=1e-4)


def test_channels_lie_on_the_short_side():
    left, right = tone(0.1), torch.zeros(1600)
    for stereo in (torch.stack([left, right]), torch.stack([left, right], 1)):
        torch.testing.assert_close(read_sound(stereo, 16000).samples, left / 2)


@given(st.integers(1, 2000), st.integers(7, 500))
def test_loudness_is_the_mean_power_of_each_stretch(count: int, each: int):
    samples = torch.randn(count)
    found = tr.Sound(samples, 1000).loudness(each / 1000)
    right = [10 * math.log10(float(part.double().square().mean()) + 1e-10) for part in samples.split(each)]
    whole = count // each  # the last one is not full
    assert len(found) == -(-count // each)
    np.testing.assert_allclose(found[:whole], right[:whole], atol=1e-6)


def test_part_of_a_file_and_of_an_array(tmp_path: Path):
    wave = tone(1.0)
    soundfile.write(tmp_path / "a.wav", wave.numpy(), 16000, subtype="FLOAT")
    for source, rate in ((tmp_path / "a.wav", None), (wave, 16000), (tr.Sound(wave, 16000), None)):
        torch.testing.assert_close(read_sound(source, rate, (0.25, 0.5)).samples, wave[4000:8000])
        torch.testing.assert_close(read_sound(source, rate, (0.75, 9)).samples, wave[12000:])
        with pytest.raises(InputError, match=r"begins after the end of the sound, which is 1.00 s long"):
            read_sound(source, rate, (1.0, 2.0))
    for part in ((1, 1), (-1, 2), (2, 1), (math.nan, 1), 3, ("a", "b")):
        with pytest.raises(InputError, match=r"expected \(from, to\) in seconds"):
            read_sound(wave, 16000, part)


def test_a_part_up_to_the_end(tmp_path: Path):
    samples = np.linspace(0, 0.5, 100, dtype=np.float32)
    soundfile.write(tmp_path / "ramp.wav", samples, 100, subtype="FLOAT")
    for source, rate in ((tmp_path / "ramp.wav", None), (samples, 100)):
        np.testing.assert_array_equal(read_sound(source, rate, (0.9, math.inf)).samples, samples[90:])
        np.testing.assert_array_equal(read_sound(source, rate, (0.9, 7.0)).samples, samples[90:])
        with pytest.raises(InputError, match="holds no sample of a sound with 100 a second"):
            read_sound(source, rate, (0, 1e-4))
        with pytest.raises(InputError, match="begins after the end"):
            read_sound(source, rate, (1.5, math.inf))


def test_a_sound_of_numpy():
    made = tr.Sound(np.array([0.25, -0.5]), np.int64(100))
    assert (made.samples.tolist(), made.samples.dtype, made.rate) == ([0.25, -0.5], torch.float32, 100)
    assert type(made.rate) is int
    for wrong in (np.zeros(3, dtype=np.int16), [0.0, 0.1], np.zeros((2, 3))):
        with pytest.raises(InputError, match=r"expected floats \(S,\): one channel"):
            tr.Sound(wrong, 100)


def test_bad_files(tmp_path: Path):
    (tmp_path / "text.wav").write_text("not a sound\n" * 40)
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, np.inf]), 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"cannot be read as a sound: .*; convert it to wav, flac"):
        read_sound(tmp_path / "text.wav")
    with pytest.raises(InputError, match=r"is empty \(0 bytes\)"):
        read_sound(tmp_path / "empty.wav")
    with pytest.raises(InputError, match=r"no file .*; there is no folder .*nowhere"):
        read_sound(tmp_path / "nowhere" / "speech.wav")
    with pytest.raises(InputError, match="has no samples, expected one at least"):
        read_sound(tmp_path / "none.wav")
    with pytest.raises(InputError, match="sample 1 of the sound is nan, one of 2 that are no number"):
        read_sound(tmp_path / "nan.wav")
    with pytest.raises(InputError, match=r"no file .*nearest: 'text.wav'"):
        read_sound(tmp_path / "texts.wav")
    with pytest.raises(InputError, match="is a folder"):
        read_sound(tmp_path)


@pytest.mark.parametrize(
    ("source", "rate", "words"),
    [
        (torch.zeros(5), None, "without its rate"),
        (torch.zeros(5), 0, "rate = 0"),
        (torch.zeros(5), 16000.5, "rate = 16000.5"),
        (torch.zeros(0), 16000, "no samples"),
        (torch.zeros(2, 3, 4), 16000, r"shape \(2, 3, 4\)"),
        (torch.zeros(3, 4), 16000, r"shape \(3, 4\)"),
        (torch.zeros(40, 50), 16000, r"shape \(40, 50\)"),
        (torch.zeros(5, dtype=torch.bool), 16000, "samples are torch.bool"),
        (np.array(["a", "b"]), 16000, "no array of numbers"),
        ([0.0, 1.0], 16000, "the sound is a list"),
        (torch.tensor([0.0, -12345.0]), 16000, r"samples go up to 12345, expected full scale .*divide them"),
    ],
)
def test_bad_arrays(source: object, rate: int | None, words: str):
    with pytest.raises(InputError, match=words):
        read_sound(source, rate)


def test_more_than_an_hour_is_refused_before_it_is_read(tmp_path: Path):
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 10, 1, "PCM_U8") as written:
        written.write(np.zeros(10 * 3601))
    with pytest.raises(InputError, match=r"60 minutes long, expected 60 at most; take a part of it"):
        read_sound(tmp_path / "long.wav")
    assert read_sound(tmp_path / "long.wav", part=(0, 30)).seconds == 30


def test_without_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tokenrank\[audio\]'"):
        read_sound(tmp_path / "speech.wav")


@pytest.mark.parametrize("source", [torch.zeros(16000), "a.wav"])
def test_a_rate_that_contradicts(source: object):
    given = tr.Sound(source, 16000) if isinstance(source, torch.Tensor) else source
    with pytest.raises(InputError, match="leave rate out"):
        read_sound(given, rate=8000)
