"""Help that can be read anywhere, and whose examples run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

import tokenrank as tr
from tests.audio.speech import save_wav2vec2, tone
from tests.cli.conftest import Ran
from tests.cli.test_command import python
from tests.evaluate.reproduce_cases import save_models
from tokenrank.cli import EXAMPLES
from tokenrank.tasks.absorbed import POWER
from tokenrank.tasks.saliency import SaliencyWay, saliency_map

Run = Callable[..., Ran]

COMMANDS = [command.__name__ for command in EXAMPLES]
LINES = [line for lines in EXAMPLES.values() for line in lines]


@pytest.fixture(scope="module")
def coffee() -> tr.Observation:
    return tr.observe(tr.samples.path("coffee"), size=96)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_the_terminal(run: Run, command: str, columns: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    ran = run(command, "--help")
    assert ran.code == 0
    assert "\x1b" not in ran.stdout
    widest = min(columns, 88)
    too_wide = [
        line
        for line in ran.stdout.splitlines()
        if len(line) > widest
        and not line.startswith("  tokenrank ")  # stays whole, since it is copied
        and " " in line.strip()  # a word that is longer cannot be broken
    ]
    assert not too_wide


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_defaults_and_extras(run: Run, command: str):
    shown = run(command, "--help").stdout
    examples = shown.split("Examples:\n")[1].split("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"  tokenrank {command}") for line in examples)
    assert "[]" not in shown
    assert "None" not in shown
    if command in ("segment", "saliency"):
        assert "tokenrank[refine]" in shown
    if "--out" in shown:
        assert "--quiet" in shown
    if "PATHS..." in shown:
        assert "exit code is then 3" in " ".join(shown.split())


def test_saliency_says_the_defaults_that_it_has(run: Run, coffee: tr.Observation):
    shown = " ".join(run("saliency", "--help").stdout.split())
    layer, heads = (shown.split(f"--{name} ")[1].split(" --")[0] for name in ("layer", "heads"))
    assert "three quarters" not in shown
    assert "the default)" not in heads
    assert layer.endswith("by default the last quarter of them (border: all).")
    assert heads.endswith(
        "By default uniform with arrival and tokenrank, lambda2 with the others; border takes |λ2|¹⁶."
    )
    assert POWER == 16
    for how in get_args(SaliencyWay):
        for name, default in (
            ("layer", list(coffee.layers) if how == "border" else list(coffee.layers)[-3:]),
            ("heads", "uniform" if how in ("arrival", "tokenrank") else "lambda2"),
        ):
            found, said = saliency_map(coffee, how), saliency_map(coffee, how, **{name: default})
            assert torch.equal(found.values, said.values)


def test_the_exit_codes_are_in_the_help(run: Run):
    shown = " ".join(run("--help").stdout.split())
    for words in (
        "0 all is done",
        "1 bad input",
        "2 a command line that is wrong",
        "3 some inputs failed",
        "130 Ctrl-C",
    ):
        assert words in shown


def test_help_in_a_locale_without_greek():
    code = """
import sys
from tokenrank.cli import main
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0, (command, end.code)
    print("END")
"""
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "40", "TERM": "dumb", "PYTHONUTF8": "0"}
    ran = python(code, "", *COMMANDS, **plain)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii()
    assert "\\" not in ran.stdout.replace("\\u", "\\")
    shown = dict(zip(["", *COMMANDS], ran.stdout.split("END\n")[:-1], strict=True))
    assert all("--help" in text for text in shown.values())
    assert "|lambda2|" in shown["image"]
    assert "N|N,N,..." in shown["image"]


def test_errors_in_a_locale_without_greek(tmp_path: Path):
    code = "import sys; from tokenrank.cli import main; main(sys.argv[1:])"
    PIL.Image.new("RGB", (60, 40)).save(tmp_path / "cat.png")
    ran = python(
        code, "image", tmp_path / "cat.png", "--start", "99,1", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert ran.returncode == 1
    assert "outside the picture of 60 x 40 pixels" in ran.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    noise = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for name in ("cat.jpg", "dog.jpg", "photos/one.jpg", "photos/two.jpg"):
        PIL.Image.fromarray(noise.integers(0, 256, (400, 480, 3), dtype=np.uint8)).save(folder / name)
    soundfile.write(folder / "speech.wav", tone(12.0, 16000).numpy(), 16000)
    for kind in ("images", "masks"):
        (folder / "ecssd" / kind).mkdir(parents=True)
    for i in range(2):
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[8:32, 8 : 32 + 8 * i] = 255
        PIL.Image.fromarray(mask).save(folder / "ecssd" / "masks" / f"{i}.png")
        PIL.Image.fromarray(np.repeat(mask[..., None], 3, -1)).save(folder / "ecssd" / "images" / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def registers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"))["facebook/dinov2-with-registers-base"]


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_wav2vec2(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("diffusers")
    from tests.diffusion import pipelines

    folder = tmp_path_factory.mktemp("flux")
    pipelines.flux(tmp_path_factory.mktemp("words")).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_examples_run(
    run: Run, place: Path, registers: Path, wav2vec2: Path, flux: Path, line: str, monkeypatch: pytest.MonkeyPatch
):
    """As they stand, with smaller pictures, and with a small network in the place of one that must be downloaded."""
    monkeypatch.chdir(place)
    pytest.importorskip("pyarrow")
    _, command, *words = shlex.split(line)
    if "openai/whisper-tiny.en" in words:
        words[words.index("openai/whisper-tiny.en")] = str(wav2vec2)
    if command == "generate":
        words[words.index("diffusers:Qwen/Qwen-Image")] = str(flux)
        words += ["--steps", "2", "--size", "32x16"]
    if command == "bench":
        words += ["--only", "machine"]
    if command == "reproduce" and words:
        words += ["--model", str(registers), "--resamples", "5"]
    drawn = command == "explore" and any(word.endswith(".jpg") for word in words)
    if drawn or command in ("demo", "image", "segment", "cluster", "saliency", "evaluate"):
        words += ["--size", "64"]
    ran = run(command, *words)
    assert ran.code == 0, ran.stderr
    assert ran.stdout
    assert command == "reproduce" or all(path.is_file() for path in ran.paths)
