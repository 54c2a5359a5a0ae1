from __future__ import annotations

from pathlib import Path

import pytest

import tokenrank as tr

from .speech import SAID, save_whisper, tone


@pytest.fixture(scope="session")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def whisper(whisper_folder: Path) -> tr.Model:
    return tr.load(whisper_folder)


@pytest.fixture(scope="session")
def heard(whisper: tr.Model) -> tr.Observation:
    """1.2 s of the window of two: 60 of 100 frames."""
    return tr.observe(tr.Sound(tone(1.2), 16000), model=whisper, said=SAID)
