from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.audio.speech import SAID, save_wav2vec2, save_whisper, tone
from tests.cli.conftest import Ran
from tests.cli.test_image import check_refused

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
    assert [path.name for path in ran.paths] == ["bounces.png", "words.png", "lambda2.png", "table.json"]
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert table["analysis"]["start"] == {"seconds": 0.5}
    assert table["analysis"]["seconds"] == 1.5
    assert [row["seconds"] for row in table["tokens"] if row["start"]] == [0.5]
    assert len(table["tokens"]) == 75


def test_a_model_that_writes_nothing_has_no_words(run: Run, speech: Path, tmp_path: Path):
    model = save_wav2vec2(tmp_path / "model")
    ran = run("audio", speech, "--model", model, "--heads", "uniform", "--formats", "png", "--out", tmp_path / "out")
    assert ran.code == 0, ran.stderr
    assert [path.name for path in ran.paths] == ["bounces.png", "lambda2.png", "table.json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "reads 2 s at once; take a part of it"),
        (["--part", "0"], "is not FROM,TO"),
        (["--part", "a,b"], "part = 'a', expected seconds"),
        (["--part", "1,1"], "expected (from, to) in seconds"),
        (["--part", "0,1", "--start", "1.5"], "moment 1.5 s, but span 'audio' is from 0 to 1 s"),
        (["--part", "0,1", "--start", "-1"], "start = '-1', expected seconds from 0"),
    ],
)
def test_bad_options(run: Run, whisper: Path, speech: Path, tmp_path: Path, options: list[str], words: str):
    check_refused(run("audio", speech, "--model", whisper, "--said", "", "--out", tmp_path, *options), words)
