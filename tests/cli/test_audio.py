from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.audio.speech import SAID, save_wav2vec2, save_whisper, tone
from tests.cli.conftest import Ran, check_refused

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, tone(2.4, 44100).numpy(), 44100)
    return path


def test_files_are_written(run: Run, whisper: Path, speech: Path, tmp_path: Path):
    options = ["--model", whisper, "--start", "0.5", "--part", "0,1.5", "--said", SAID, "--heads", "uniform"]
    ran = run("audio", speech, *options, "--formats", "png", "--out", tmp_path)
    assert ran.code == 0, ran.stderr
    assert [path.name for path in ran.paths] == [
        f"speech-{n}" for n in ("bounces.png", "words.png", "lambda2.png", "table.json")
    ]
    table = json.loads((tmp_path / "speech-table.json").read_text("utf-8"))
    assert table["analysis"]["start"] == {"seconds": 0.5}
    assert table["analysis"]["seconds"] == 1.5
    assert [row["seconds"] for row in table["tokens"] if row["start"]] == [0.5]
    assert len(table["tokens"]) == 75


def test_a_model_that_writes_nothing_has_no_words(run: Run, speech: Path, tmp_path: Path):
    model = save_wav2vec2(tmp_path / "model")
    ran = run("audio", speech, "--model", model, "--heads", "uniform", "--formats", "png", "--out", tmp_path / "out")
    assert ran.code == 0, ran.stderr
    assert [path.name for path in ran.paths] == ["speech-bounces.png", "speech-lambda2.png", "speech-table.json"]


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ([], "reads 2 s at once; take a part of it", 1),
        (["--part", "0,1", "--start", "1.5"], "moment 1.5 s, but span 'audio' is from 0 to 1 s", 1),
        (["--part", "0"], "is not FROM,TO", 2),
        (["--scale", "share"], "scale = 'share'; nearest: 'shared'", 2),
        (["--part", "a,b"], "part = 'a', expected seconds", 2),
        (["--part", "1,1"], "give FROM,TO in seconds", 2),
        (["--part", "0,1", "--start", "-1"], "start = '-1', expected seconds from 0", 2),
    ],
)
def test_bad_options(run: Run, whisper: Path, speech: Path, tmp_path: Path, options: list[str], words: str, code: int):
    check_refused(run("audio", speech, "--model", whisper, "--said", "", "--out", tmp_path, *options), words, code)


def test_scale(run: Run, speech: Path, tmp_path: Path):
    model = save_wav2vec2(tmp_path / "model")
    drawn = []
    for scale in ("each", "shared"):
        options = ["--heads", "uniform", "--n", "1", "--scale", scale, "--out", tmp_path / scale]
        ran = run("audio", speech, "--model", model, *options)
        assert ran.code == 0, ran.stderr
        drawn.append((tmp_path / scale / "speech-bounces.png").read_bytes())
    assert drawn[0] != drawn[1]


def test_several_sounds(run: Run, speech: Path, tmp_path: Path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("first.wav", "second.wav"):
        (folder / name).write_bytes(speech.read_bytes())
    (folder / "broken.wav").write_bytes(b"RIFF")
    model = save_wav2vec2(tmp_path / "model")
    ran = run("audio", folder, "--model", model, "--heads", "uniform", "--out", tmp_path / "out")
    assert ran.code == 3
    endings = ("bounces.png", "lambda2.png", "table.json")
    assert ran.names == [f"{stem}-{ending}" for stem in ("first", "second") for ending in endings]
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert "broken.wav' cannot be read as a sound" in errors[0]
    assert errors[1:] == ["error: 1 of 3 sounds failed; the rest is done"]
