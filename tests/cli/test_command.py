"""The command as a program: what it imports, where it reaches, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokenrank
from tokenrank.cli import main
from tokenrank.select import default_layer

SOURCE = Path(tokenrank.__file__).parent.parent


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**clean, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


NO_NETWORK = """
import socket, sys
def refuse(self, address, *rest):
    raise AssertionError(f"network: {address}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *a, **k: refuse(None, a)
from tokenrank.cli import main
"""


def test_the_bundled_model_needs_no_network_and_no_display(picture: Path, tmp_path: Path):
    code = NO_NETWORK + (
        "import atexit\n"
        "atexit.register(lambda: print('pyplot' if 'matplotlib.pyplot' in sys.modules else 'clean', file=sys.stderr))\n"
        "main(sys.argv[1:])"
    )
    ran = python(code, "image", picture, "--size", 48, "--out", tmp_path, DISPLAY="", MPLCONFIGDIR=str(tmp_path / "m"))
    assert ran.returncode == 0, ran.stderr
    chosen, timed, imported = ran.stderr.splitlines()
    place = default_layer(12)
    where = f"layer {place} of 0–11 (model.layer.{place}.attention)"
    assert chosen == f"noise.png: bundled, {where}, heads lambda2, tokens image"
    assert timed.startswith("noise.png: ")
    assert imported == "clean"
    assert len(ran.stdout.splitlines()) == 3


def test_bad_input_is_one_line_and_exit_code_1(tmp_path: Path):
    ran = python("import sys; from tokenrank.cli import main; main(sys.argv[1:])", "image", tmp_path / "none.png")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("error: no file ")


def test_help_and_version_import_nothing_heavy():
    code = """
import sys
from tokenrank.cli import main
for arguments in (["--help"], ["image", "--help"], ["--version"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
print(sorted({"torch", "numpy", "transformers", "matplotlib", "PIL"} & set(sys.modules)))
"""
    ran = python(code)
    assert ran.returncode == 0, ran.stderr
    *_, version, heavy = ran.stdout.splitlines()
    assert version == f"tokenrank {tokenrank.__version__}"
    assert heavy == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audio", "hello.wav"], "--model MODEL is missing: A folder, or OWNER/NAME"),
        (["image", "a.png", "--modle", "x"], "no option '--modle'; nearest: '--model'; all: '--model', '--layer'"),
        (["imagine"], "no command 'imagine'; nearest: 'image'; all: 'demo'"),
        (["image"], "PATHS... is missing: Pictures, and folders"),
        (["text", "a", "b"], "unexpected extra argument"),
        (["image", "a.png", "--size"], "'--size' requires an argument"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert words in captured.err
    command = "" if arguments[0] == "imagine" else f" {arguments[0]}"
    assert captured.err.endswith(f"(see tokenrank{command} --help)\n")


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for command in ("demo", "image", "text", "saliency"):
        assert f"  {command} " in shown


def test_python_m_tokenrank():
    ran = subprocess.run(
        [sys.executable, "-m", "tokenrank", "--version"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout == f"tokenrank {tokenrank.__version__}\n"
