"""What happens around a command: pipes that close, Ctrl-C, other streams, and the shell that completes words."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest

from tests.cli.test_command import SOURCE, python
from tokenrank.cli import main
from tokenrank.cli.plainly import plainly, write_plainly

MAIN = "import sys; from tokenrank.cli import main; main(sys.argv[1:])"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
unix = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of Unix")


class OnlyText(io.TextIOBase):
    """A stream as embedding programs have them: text in, no buffer, no descriptor, no encoding."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)


@pytest.mark.parametrize("stream", [io.StringIO, OnlyText])
def test_an_embedding_program_gets_what_is_printed(stream: type[io.StringIO], vit: Path, picture: Path, tmp_path: Path):
    out, err = stream(), stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for arguments in (
            ["segment", str(picture), "--model", str(vit), "--start", "cls", "--out", str(tmp_path)],
            ["--help"],
            ["reproduce"],
            ["--version"],
            ["imagine"],
        ):
            with pytest.raises(SystemExit):
                main(arguments)
    texts = [str(getattr(s, "text", "") or s.getvalue()) for s in (out, err)]
    assert str(tmp_path / "noise-segment-mask.png") in texts[0].splitlines()
    assert "Usage: tokenrank COMMAND" in texts[0]
    assert "no command 'imagine'" in texts[1]


@unix
def test_a_pipe_that_nobody_reads_ends_quietly(picture: Path, tmp_path: Path):
    command = [sys.executable, "-c", MAIN, "image", str(picture), "--size", "48", "--out", str(tmp_path)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            command, env=ENVIRONMENT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300, check=False
        )
        helped = subprocess.run(
            [*command[:3], "--help"], env=ENVIRONMENT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300,
            check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert ran.returncode == 141
    assert ran.stderr == ""
    assert helped.returncode != 0
    assert helped.stderr == ""


def heed_interrupts() -> None:
    """Whoever runs the tests in the background has made them, and their children, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@unix
def test_ctrl_c_leaves_what_is_finished(tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(200):
        PIL.Image.effect_noise((64, 64), 50 + i / 10).save(photos / f"{i:03}.png")
    out = tmp_path / "out"
    command = [sys.executable, "-c", MAIN, "segment", str(photos), "--size", "64", "--start", "cls", "--out", str(out)]
    with subprocess.Popen(
        [*command, "--formats", "mask"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = [process.stdout.readline().strip() for _ in range(2)]  # of the first nothing more is to be done
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=120)
    assert process.returncode == 130
    finished = [*first, *rest.splitlines()]
    assert sorted(map(str, out.iterdir())) == finished
    assert 2 <= len(finished) < 200
    assert said.splitlines()[-1].startswith("error: interrupted; ")
    assert said.rstrip().endswith(f"of 200 done, their results are in {out}")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tokenrank sal", {"saliency"}),
        ("tokenrank saliency --how ", {"arrival", "border", "slow", "metastable", "tokenrank"}),
        ("tokenrank image --formats pn", {"png"}),
        ("tokenrank image --formats png,", {"png,pdf", "png,svg"}),
        ("tokenrank image --table ", {"json", "parquet"}),
        ("tokenrank evaluate vo", {"voc-concepts", "voc-single"}),
        ("tokenrank image --sc", {"--scale"}),
        ("tokenrank image ca", set()),  # the shell completes the names of files
    ],
)
def test_the_shell_completes_words(words: str, expected: set[str]):
    count = len(words.split(" ")) - 1
    ran = python(MAIN, _TOKENRANK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
    assert set(ran.stdout.split()) == expected, ran.stderr


def test_completion_can_be_installed():
    # which shell it is is found by looking at the processes above, of which a test has none
    ran = python(MAIN, "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert ran.returncode == 0, ran.stderr
    assert "_TOKENRANK_COMPLETE=complete_bash" in ran.stdout
    assert "-o default" in ran.stdout  # names of files, where nothing else is known


def test_characters_that_a_terminal_has_not():
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    text = "|λ2| ≥ 3 × 4 … café 漢"
    assert plainly(text, narrow) == "|lambda2| >= 3 x 4 ... cafe \\u6f22"
    assert plainly("café 漢", io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == "café \\u6f22"
    for stream in (io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()):
        assert plainly(text, stream) == text
    write_plainly(narrow)
    print(text, file=narrow, flush=True)
    assert narrow.buffer.getvalue() == b"|lambda2| >= 3 x 4 ... cafe \\u6f22\n"  # type: ignore[attr-defined]


def test_a_wrong_command_line_is_told_at_once(tmp_path: Path):
    """Without torch being loaded, which takes seconds."""
    (tmp_path / "file").write_text("mine")
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules))))\n" + MAIN
    )
    for arguments, status in (
        (["image", "none.png", "--n", "0"], 2),
        (["saliency", "none.png", "--how", "x"], 2),
        (["segment", "none.png", "--out", str(tmp_path / "file")], 1),
        (["evaluate", "saliency", "--data", ".", "--methods", "x", "--out", str(tmp_path / "file")], 1),
        (["reproduce", "bounces", "--out", str(tmp_path / "file")], 1),
        (["text", "a", "--alpha", "2"], 2),
        (["image", "https://example.org/cat.jpg"], 1),
    ):
        ran = python(code, *arguments)
        assert ran.returncode == status, ran.stderr
        assert ran.stdout.strip() == "[]", arguments
        assert ran.stderr.startswith("error: ")


def test_time_of_a_help(tmp_path: Path):
    began = time.monotonic()
    assert python(MAIN, "image", "--help").returncode == 0
    assert time.monotonic() - began < 20  # of a busy machine; 0.4 s of an idle one
