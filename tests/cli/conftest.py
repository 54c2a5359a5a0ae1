from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from tests.tiny import SENTENCE, save_bert, save_vit
from tokenrank.cli import app


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"), ["7", *SENTENCE.split()])


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, *arguments: object) -> None:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        self.code, self.error = result.exit_code, result.exception
        self.stdout, self.stderr = result.stdout, result.stderr
        self.paths = [Path(line) for line in result.stdout.splitlines()]


@pytest.fixture
def run() -> Callable[..., Ran]:
    return Ran
