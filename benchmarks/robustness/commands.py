"""Command lines at random: options, values, order, odd bytes, missing files, folders, links and pipes.

    python benchmarks/robustness/commands.py --out benchmarks/results/robustness-commands.json

Every command of ``tokenrank``, most in one process through ``tokenrank.cli.main``, some as processes of their own.
Counted: tracebacks, exit codes that are none of the table, lines on stderr that are not the command's own, files
outside of ``--out`` that are new, gone or changed, and lines that take more than 30 s of the processor, or 150 s of the
clock. All must be 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from facts import facts, parser, save

from tokenrank.cli import EXAMPLES, main

CODES = {0, 1, 2, 3, 130}
SECONDS = 30.0  # of the processor
WAIT = 150.0  # of the clock: longer, as the machine may be shared
KINDS = ("tracebacks", "codes", "noise", "outside", "hangs")
COMMANDS = tuple(command.__name__ for command in EXAMPLES)
SMALL = ("--size", "32")  # quick

VALUES: dict[str, tuple[str, ...]] = {
    "--layer": ("0", "11", "-1", "99", "3", "x", "layer", "1e3", "", "٣"),
    "--heads": ("lambda2", "uniform", "0", "0+1", "99", "-1", "0+", "+", "uniformm", "\x1b[31m"),
    "--tokens": ("image", "all", "image+cls", "+", "nothing", ""),
    "--start": ("0.5,0.5", "1,1", "999,999", "-1,0", "nan,nan", "inf,0.5", "cls", "cat", "0", "1.3", ",", "1;2", ""),
    "--n": ("8", "1,2,8", "halflife", "0", "-1", "1e9", "1,2,3,4,5,6,7,8,9", "x", "", "9999999999999999999999"),
    "--alpha": ("0.99", "1", "0", "2", "-0.5", "nan", "inf", "x", "1e-400"),
    "--size": ("32", "48", "0", "-3", "7", "x", "1e3", "", "99999999999999999999"),
    "--formats": ("png", "svg", "pdf", "mask", "figure", "overlay", "coco", "gif", "png,,svg", ",", "", "PNG"),
    "--table": ("json", "parquet", "csv", ""),
    "--scale": ("each", "shared", "both", ""),
    "--box": ("0.1,0.1,0.9,0.9", "1,1,5,5", "0.9,0.9,0.1,0.1", "1,2,3", "nan,0.1,0.2,0.3"),
    "--k": ("2", "1", "0", "100000", "-4", "x"),
    "--how": ("arrival", "border", "slow", "metastable", "tokenrank", "x", ""),
    "--rule": ("mean", "all", "0.6", "0", "2", "nan", "x"),
    "--tau": ("auto", "1.1", "-1", "nan", "x"),
    "--part": ("0,1", "1,0", "-1,2", "nan,1", "x", "5,9999"),
    "--said": ("hello", "", "\u202ehello", "a\0b"),
    "--limit": ("1", "0", "-1", "x", "1e9"),
    "--half": ("0", "1", "2", "x"),
    "--batch": ("8", "0", "x"),
    "--seed": ("0", "-1", "x", "99999999999999999999999"),
    "--resamples": ("10", "0", "x"),
    "--methods": ("saliency", "rollout", "x", "os:system", "os:", ":", "tokenrank:layer=", "saliency,,", "a" * 5000),
    "--dataset": ("ecssd", "coco", "x", ""),
    "--option": ("a=b", "=", "x", "size=1e9"),
    "--reference": ("rollout", "x"),
    "--data": ("DATA", "PATH"),
    "--model": ("bundled", "bundled", "MODEL", "PATH", "no/such", "no such", "../..", "", "https://example.org/x"),
}
"""Option → values, right and wrong; words in capitals are drawn further."""
FLAGS = ("--board", "--refine", "--component", "--overwrite", "--quiet", "-q", "--retry", "--no-copy", "--help")
ODD = (
    "", " ", "-", "--", "-x", "--no-such", "--=", "=", "\x1b[2J", "a\nb", "\u202egpj.exe", "\udcff\udcfe", "\0", "🦆",
    "%s%n",
    "{0}", "$(id)", "`id`", "../../etc/passwd", "/dev/null", "/dev/stdin", "/dev/full", "/proc/self/mem", "a" * 300,
    "a" * 100_000, "[bold]x[/bold]", "http://example.org/a.png", "file:///etc/passwd", "*", "~", "~root", "NaN",
)  # fmt: skip
"""Words that stand where anything may stand."""


def workplace(root: Path) -> dict[str, list[str]]:
    """Files of all sorts in ``root``; PATH, DATA and MODEL → what may stand for them."""
    draw = np.random.default_rng(0)
    picture = PIL.Image.fromarray(draw.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    picture.save(root / "noise.png")
    picture.save(root / "noise.jpg")
    picture.convert("L").save(root / "grey\x1b[31m\n\u202e.png")
    picture.save(root / os.fsdecode(b"latin-\xff.png"))
    PIL.Image.new("RGB", (1, 1)).save(root / "dot.png")
    (root / "cut.png").write_bytes((root / "noise.png").read_bytes()[:900])
    (root / "empty.png").touch()
    (root / "text.png").write_text("no picture")
    (root / "words.txt").write_text("the cat sat")
    broken = io.BytesIO()
    picture.save(broken, "TIFF", compression="tiff_lzw")
    tiff = bytearray(broken.getvalue())
    tiff[len(tiff) // 3 : len(tiff) // 2] = bytes(len(tiff) // 2 - len(tiff) // 3)
    (root / "broken.tif").write_bytes(tiff)
    with wave.open(str(root / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(draw.integers(-9000, 9000, 16000, dtype=np.int16).tobytes())
    (root / "broken.wav").write_bytes((root / "tone.wav").read_bytes()[:37])
    for name in ("photos", "nothing", "data", "model"):
        (root / name).mkdir()
    picture.save(root / "photos" / "a.png")
    (root / "photos" / "b.png").write_bytes(b"\x89PNG")
    (root / "data" / "images").mkdir()
    (root / "model" / "config.json").write_text(
        '{"model_type": "\\u001b[31mvit\\u202e", "auto_map": {"AutoModel": "x.Y"}}'
    )
    (root / "link.png").symlink_to("noise.png")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe.png")
    (root / "sealed").mkdir(mode=0o500)
    files = [str(path) for path in sorted(root.iterdir())]
    return {
        "PATH": [*files, *(["noise.png", "photos"] * 4), "missing.png"],
        "DATA": ["data", "nothing", "photos", "missing"],
        "MODEL": ["model", "nothing", "noise.png"],
    }


def line(number: int, words: dict[str, list[str]], out: str) -> list[str]:
    """The command line of a number: the same for the same files.

    Args:
        number: of the line.
        words: of ``workplace``.
        out: for ``--out``; left out where the command writes nothing.
    """
    draw = random.Random(number)

    def filled(value: str) -> str:
        while value in words:
            value = draw.choice(words[value])
        return draw.choice(ODD) if draw.random() < 0.04 else value

    command = COMMANDS[number % len(COMMANDS)]
    known = [parameter for parameter in _options(command) if parameter in VALUES]
    given: list[list[str]] = [[filled("PATH")] for _ in range(draw.choice((1, 1, 1, 2)))]
    if command in ("text", "evaluate", "reproduce", "demo"):
        usual = {"text": "the cat sat on the mat", "evaluate": "saliency", "reproduce": "bounces"}
        argument = usual.get(command, "")
        given = [[filled(argument)]] if argument and draw.random() < 0.9 else []
    if command == "evaluate" and draw.random() < 0.8:
        given += [["--data", filled("DATA")], ["--methods", filled("saliency")]]
    if command == "audio" and draw.random() < 0.8:
        given += [["--model", filled("MODEL")]]
    if command in ("demo", "image", "saliency", "segment", "cluster") and draw.random() < 0.9:
        given += [list(SMALL)]
    for option in draw.sample(known, min(len(known), draw.choice((0, 1, 1, 2, 3)))):
        value = filled(draw.choice(VALUES[option]))
        given += [[f"{option}={value}"] if draw.random() < 0.2 else [option, value]]
    given += [[draw.choice(FLAGS)]] * (draw.random() < 0.3) + [[draw.choice(ODD)]] * (draw.random() < 0.15)
    draw.shuffle(given)
    arguments = [word for part in given for word in part]
    name = command if draw.random() < 0.97 else draw.choice(ODD)
    return [name, "--out", out, *arguments]


def _options(command: str) -> list[str]:
    import typer

    from tokenrank.cli import app

    return [name for p in typer.main.get_command(app).commands[command].params for name in p.opts]  # type: ignore[attr-defined]


def tree(root: Path, but: Path) -> dict[str, str]:
    """What is in ``root`` outside of ``but``: path → kind and content."""
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != but]
        for name in [*folders, *files]:
            path = Path(folder, name)
            plain = path.is_file() and not path.is_symlink()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if plain else ""
            found[str(path)] = f"{path.lstat().st_mode:o} {content}"
    return found


TIMERS = ((signal.SIGALRM, signal.ITIMER_REAL, WAIT), (signal.SIGPROF, signal.ITIMER_PROF, SECONDS))


class LateError(BaseException):
    """A command took too long; nothing in it may catch this."""


def _late(*_: Any) -> None:
    raise LateError


def inside(arguments: list[str]) -> tuple[int | str, str]:
    """Exit code, or what went wrong, and stderr; descriptor 2 included, where libraries write."""
    said, text = tempfile.TemporaryFile(), io.StringIO()  # noqa: SIM115
    before = os.dup(2)
    os.dup2(said.fileno(), 2)
    for number, timer, most in TIMERS:
        signal.signal(number, _late)
        signal.setitimer(timer, most)
    end: int | str = "no end"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(text):
            main(arguments)
    except SystemExit as left:
        end = left.code if isinstance(left.code, int) else 0
    except LateError:
        end = "hangs"
    except BaseException as error:
        end = f"traceback {type(error).__name__}: {error}"
    finally:
        for _, timer, _ in TIMERS:
            signal.setitimer(timer, 0)
        os.dup2(before, 2)
        os.close(before)
    said.seek(0)
    return end, text.getvalue() + said.read().decode(errors="replace")


def apart(arguments: list[str], root: Path) -> tuple[int | str, str]:
    """The same in a process of its own; words that no process can be given are left out."""
    words = [word.replace("\0", "")[:100_000] for word in arguments]
    command = [sys.executable, "-m", "tokenrank", *words]
    try:
        ran = subprocess.run(
            command, cwd=root, capture_output=True, stdin=subprocess.DEVNULL, timeout=WAIT, check=False
        )
    except subprocess.TimeoutExpired:
        return "hangs", ""
    return ran.returncode, ran.stderr.decode(errors="replace")


def verdicts(end: int | str, said: str) -> list[str]:
    """What is wrong with how a command ended and what it said."""
    found = ["hangs"] if end == "hangs" else []
    found += ["tracebacks"] if "Traceback" in said or str(end).startswith("traceback") else []
    found += ["codes"] if isinstance(end, int) and end not in CODES else []
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    own = all(line.isprintable() for line in lines) and not any(
        "error: unexpected " in line or ": unexpected " in line for line in errors
    )
    told = bool(errors) == (isinstance(end, int) and end != 0)
    return found + (["noise"] if not found and not (own and told and _ours(lines, end)) else [])


def _ours(lines: list[str], end: int | str) -> bool:
    """Where a command is refused as a whole, one line says why."""
    return end != 2 or len(lines) == 1


def campaign(root: Path, numbers: range, processes: int = 0) -> tuple[list[dict[str, Any]], list[str]]:
    """Run the lines of the numbers in ``root``.

    Args:
        root: an empty folder.
        numbers: of the lines.
        processes: so many, evenly among them, are run as processes of their own.

    Returns:
        A row a command with its counts, and what was wrong in words.
    """
    words, wrong = workplace(root), []
    out = root / "out"
    rows = {command: Counter(dict.fromkeys(("lines", *KINDS), 0)) for command in COMMANDS}
    slowest = dict.fromkeys(COMMANDS, 0.0)
    every = len(numbers) // processes | 1 if processes else 0
    before, here = tree(root, out), Path.cwd()
    os.chdir(root)
    try:
        for number in numbers:
            arguments = line(number, words, str(out))
            begin = time.perf_counter()
            # every so many of an odd step, so that each command has its turn
            own = bool(every) and number % every == 0
            end, said = apart(arguments, root) if own else inside(arguments)
            command = COMMANDS[number % len(COMMANDS)]
            slowest[command] = max(slowest[command], time.perf_counter() - begin)
            found = verdicts(end, said)
            after = tree(root, out)
            if after != before:
                found.append("outside")
                before = after
            rows[command].update(["lines", *found])
            if found:
                shown = [word if len(word) < 200 else word[:20] + "…" for word in arguments]
                wrong.append(f"{number} {found} {end!r} {shown}: {said[-600:]!r}")
                print(wrong[-1], file=sys.stderr, flush=True)
    finally:
        os.chdir(here)
    return [{"command": name, **row, "seconds": round(slowest[name], 1)} for name, row in rows.items()], wrong


def run() -> None:
    """The whole campaign."""
    arguments = parser(__doc__)
    arguments.add_argument("--lines", type=int, default=504)
    arguments.add_argument("--processes", type=int, default=24)
    arguments.add_argument("--first", type=int, default=0)
    given = arguments.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the library reads it: names at random are asked of nobody
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(given.first, given.first + given.lines)
        rows, wrong = campaign(Path(folder).resolve(), numbers, given.processes)
    totals = {kind: sum(row[kind] for row in rows) for kind in ("lines", *KINDS)}
    print({**totals, "processes": given.processes})
    save(given.out, {**facts(), "processes": given.processes, **totals}, rows)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    run()
