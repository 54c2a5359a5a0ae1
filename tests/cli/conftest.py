from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.tiny import SENTENCE, save_bert, save_vit
from tokenrank.cli import main


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
    """What a command printed and how it ended, run inside this process, as an embedding program would."""

    def __init__(self, *arguments: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.code: int | None = None
        self.error: BaseException | None = None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(a) for a in arguments])
            except SystemExit as end:
                self.code = int(end.code or 0)
            except Exception as error:
                self.error = error
                print(repr(error), file=sys.stderr)
        self.stdout, self.stderr = out.getvalue(), err.getvalue()
        self.paths = [Path(line) for line in self.stdout.splitlines()]
        self.names = [path.name for path in self.paths]


def check_refused(ran: Ran, words: str, code: int = 1) -> None:
    """One line on stderr, nothing on stdout."""
    assert ran.code == code, ran.stdout + ran.stderr
    assert ran.stdout == ""
    lines = ran.stderr.splitlines()
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("error: ")
    assert words in lines[0]


@pytest.fixture
def run() -> Callable[..., Ran]:
    return Ran
