"""The README's block on sounds, as it stands there, with the weights that it asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import tokenrank as tr
from tests.audio.speech import tone

from .conftest import network

pytestmark = pytest.mark.real

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^## Sounds\n.*?```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HUB_NAME = '"openai/whisper-tiny.en"'


def test_the_block_on_sounds_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = network("whisper-tiny-en")
    block = BLOCK.search(README.read_text(encoding="utf-8"))
    assert block is not None
    assert HUB_NAME in block[1]
    samples = tone(2.0) * torch.hann_window(32000)
    pytest.importorskip("soundfile").write(tmp_path / "speech.wav", samples.numpy(), 16000)
    monkeypatch.chdir(tmp_path)
    names = {"tr": tr}
    exec(compile(block[1].replace(HUB_NAME, repr(str(folder))), str(README), "exec"), names)
    heard = names["heard"]
    assert isinstance(heard, tr.Observation)
    assert heard.chain().num_tokens == 100  # 2 s at 20 ms
