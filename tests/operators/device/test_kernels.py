"""Kernels in Triton: right in the interpreter, accepted by the compilers of cards, left alone without Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tokenrank.operators.device import kernels

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton: it comes with PyTorch for GPUs")


def run(script: str, tmp_path: Path, **environment: str) -> str:
    """What a script of this folder prints, in a process of its own."""
    place = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(HERE / script)], env=os.environ | place | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_triton
def test_products_in_the_interpreter(tmp_path: Path) -> None:
    limit, errors = json.loads(run("interpreted.py", tmp_path, TRITON_INTERPRET="1"))
    assert len(errors) >= 40
    wrong = {name: error for name, error in errors.items() if not error < limit}
    assert not wrong


@needs_triton
def test_compilers_of_cards_take_the_kernels(tmp_path: Path) -> None:
    """Without a card: Triton brings the assembler. Types that a loop changes, and operands that no layout fits, fail
    here and not in the interpreter."""
    built = json.loads(run("compiled.py", tmp_path, TRITON_INTERPRET="0"))
    assert {name.split(",")[0] for name in built} == {"exponential", "streamed"}
    for name, shared in built.items():
        assert 0 < shared < 99 * 1024, name  # of the smallest card, 8.6


def test_without_the_interpreter_a_cpu_has_none() -> None:
    assert os.environ.get("TRITON_INTERPRET") != "1"
    assert not kernels.available(torch.device("cpu"))
    assert not kernels.streams(torch.device("cpu"))
    assert not kernels.available(torch.device("cpu"), torch.float32)
    assert not kernels.available(torch.device("cpu"), torch.float16, 512)


def test_blocks_hold_every_width() -> None:
    assert [kernels._power(width, 16) for width in (1, 16, 17, 72, 128, 129)] == [16, 16, 32, 128, 128, 256]
    assert [kernels._power(width, 8) for width in (1, 8, 9, 32)] == [8, 8, 16, 32]
