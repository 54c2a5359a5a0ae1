"""Standard error belongs to the command, at the descriptor too; exit codes of all commands are of one table."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.cli.conftest import Ran, check_refused
from tests.cli.test_terminal import ENVIRONMENT, heed_interrupts, unix
from tokenrank.cli.alone import alone, ours
from tokenrank.cli.report import say

NOISE = b"libtiff: warning\n"


def stderr_of(call: Callable[[], object]) -> bytes:
    """What the descriptor gets, whoever writes it."""
    with tempfile.TemporaryFile() as file:
        saved, before = os.dup(2), sys.stderr
        os.dup2(file.fileno(), 2)
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        try:
            call()
        finally:
            sys.stderr.close()
            sys.stderr = before
            os.dup2(saved, 2)
            os.close(saved)
        file.seek(0)
        return file.read()


def test_what_libraries_write_is_not_seen_and_what_the_command_says_is():
    handler: list[logging.StreamHandler] = []

    def command() -> None:
        with alone():
            os.write(2, NOISE)
            print("print of a library", file=sys.stderr)
            handler.append(logging.StreamHandler())  # keeps the stream of now, as transformers' does
            handler[0].emit(logging.makeLogRecord({"msg": "in the block"}))
            subprocess.run([sys.executable, "-c", "import os; os.write(2, b'child')"], check=True)
            say("error: λ of ours")
        handler[0].emit(logging.makeLogRecord({"msg": "afterwards"}))
        os.write(2, NOISE)

    assert stderr_of(command) == "error: λ of ours\nafterwards\n".encode() + NOISE


def test_a_stream_of_an_embedding_program():
    def command() -> None:
        text = io.StringIO()
        with contextlib.redirect_stderr(text), alone():
            print("print of a library", file=sys.stderr)
            os.write(2, NOISE)
            with alone():  # a command within a command
                say("ours")
            assert ours() is text
        assert text.getvalue() == "ours\n"

    assert stderr_of(command) == b""


def test_the_descriptor_is_as_before_whatever_happens():
    def command() -> None:
        for end in (ValueError, KeyboardInterrupt, SystemExit):
            with contextlib.suppress(end), alone():
                raise end
        os.write(2, b"seen")

    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0

    files = opened()
    assert stderr_of(command) == b"seen"
    assert opened() == files


@pytest.fixture
def damaged(tmp_path: Path) -> list[Path]:
    """Files at which libraries write to stderr by themselves, in part at the descriptor."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = []
    for form, options in (("tiff", {"compression": "tiff_lzw"}), ("tiff", {"compression": "jpeg"}), ("png", {})):
        content = io.BytesIO()
        PIL.Image.fromarray(noise).save(content, form, **options)  # type: ignore[arg-type]
        data = bytearray(content.getvalue())
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        found.append(tmp_path / f"{len(found)}.{form}")
        found[-1].write_bytes(data)
    return found


def test_damaged_pictures_give_one_line(damaged: list[Path], vit: Path, tmp_path: Path, run: Callable[..., Ran]):
    for path in damaged:
        arguments = ("segment", str(path), "--model", str(vit), "--start", "cls", "--out", str(tmp_path / path.stem))
        ran, noise = ran_with_noise(run, *arguments)
        assert noise == b""
        if path.name == "1.tiff":  # its decoder takes what there is
            assert ran.code in (0, 1)
        else:
            check_refused(ran, path.name)


def ran_with_noise(run: Callable[..., Ran], *arguments: str) -> tuple[Ran, bytes]:
    """A command, and what others than it wrote to the descriptor meanwhile."""
    ran: list[Ran] = []
    noise = stderr_of(lambda: ran.append(run(*arguments)))
    return ran[0], noise


@pytest.mark.parametrize("cut", [40, 41, 60])
def test_damaged_sounds_and_weights_give_one_line(cut: int, vit: Path, tmp_path: Path, run: Callable[..., Ran]):
    head = b"RIFF$\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0data"
    (tmp_path / "a.wav").write_bytes((head + bytes(99))[:cut])
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (model / name).write_bytes((vit / name).read_bytes())
    (model / "model.safetensors").write_bytes((vit / "model.safetensors").read_bytes()[:cut])
    PIL.Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    out = ("--out", str(tmp_path / "out"))
    for arguments in (
        ("audio", str(tmp_path / "a.wav"), "--model", str(model), *out),
        ("segment", str(tmp_path / "a.png"), "--start", "cls", "--model", str(model), *out),
    ):
        ran, noise = ran_with_noise(run, *arguments)
        assert noise == b""
        assert ran.code == 1, ran.stderr
        assert [line[:7] for line in ran.stderr.splitlines() if not line.startswith("warning: ")] == ["error: "]


COMMANDS = {
    "demo": ["--size", "x"],
    "image": ["none.png"],
    "text": ["", "--model", "no/such"],
    "audio": ["none.wav", "--model", "none"],
    "saliency": ["none.png"],
    "segment": ["none.png", "--start", "cls"],
    "cluster": ["none.png"],
    "explore": ["none.png"],
    "generate": ["a cat", "--model", "none/such"],
    "evaluate": ["saliency", "--data", "none", "--methods", "rollout"],
    "bench": ["--device", "none"],
    "reproduce": ["bounces", "--data", "none"],
}


def test_exit_codes_of_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ran]):
    from tokenrank.cli import EXAMPLES

    monkeypatch.chdir(tmp_path)
    assert {command.__name__ for command in EXAMPLES} == set(COMMANDS)
    for name, arguments in COMMANDS.items():
        assert run(name, "--help").code == 0
        wrong = run(name, *arguments, "--no-such-option")
        assert (wrong.code, len(wrong.stderr.splitlines())) == (2, 1), wrong.stderr
        if name not in ("demo", "text"):  # what may fail otherwise than by a wrong call
            out = {"explore": "out.html", "bench": "out.json"}.get(name, "out")
            failed = run(name, *arguments, "--out", str(tmp_path / out))
            assert (failed.code, len(failed.stderr.splitlines())) == (1, 1), failed.stderr
    assert list(tmp_path.iterdir()) == []


@unix
@pytest.mark.slow
@pytest.mark.parametrize("after", [0.2, 1.0, 3.0, 6.0])
def test_ctrl_c_ends_at_once(after: float, picture: Path, tmp_path: Path):
    """While modules and the model are loaded, and in the forward pass."""
    code = "import sys; from tokenrank.cli import main; print(flush=True); sys.argv[0] = 'tokenrank'; main()"
    command = [sys.executable, "-c", code, "image", str(picture), "--size", "896", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert time.monotonic() - began < 5  # of a busy machine; 0.1 s of an idle one
    if process.returncode:
        assert process.returncode == 130
        assert said.splitlines()[-1].startswith("error: interrupted")
        assert "Traceback" not in said
