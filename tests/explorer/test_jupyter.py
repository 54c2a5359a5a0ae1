"""The widget in JupyterLab, in a browser: a click is read in Python, and what Python sets is seen."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tokenrank as tr
from tests.browser import Browser

CELLS = [
    "import json\nimport tokenrank as tr\n"
    'obs = tr.observe(tr.samples.path("coffee"), size=96)\nfound = tr.explore(obs, layers=[5, -1])\nfound',
    "w = found.widget()\nw.bounces, w.starts = 4, [9]",
    'print("STATE", json.dumps(w.state))',
    "tr.explore(obs, layers=[-1])",
    "w.layer = 5",
    'print("STATE", json.dumps(w.state))',
]
RUN = 150_000
"""Milliseconds that a cell may take on a busy machine."""
DARK = {"theme": "JupyterLab Dark"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab, a dark one, that has a notebook ``mine.ipynb``; ended with the test."""
    pytest.importorskip("jupyterlab", reason="no JupyterLab: pip install jupyterlab")
    pytest.importorskip("anywidget", reason='no anywidget: pip install "tokenrank[notebook]"')
    cells = [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = {"nbformat": 4, "nbformat_minor": 4, "metadata": kernel, "cells": cells}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.ipynb").write_text(json.dumps(book))
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "themes.jupyterlab-settings").write_text(json.dumps(DARK))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
    }  # fmt: skip
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JUPYTER_NO_CONFIG": "1"}
    options = [
        "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path / 'work'}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait(lambda: _answers(f"{address}api"), 60, lambda: (tmp_path / "lab.log").read_text("utf-8"))
            yield address
        finally:
            server.terminate()  # which ends its kernels, too
            server.wait(20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(done: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, why()
        time.sleep(0.2)


class Notebook:
    """The notebook that is open in the window."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")
        page.get_by_text("(ipykernel) | Idle").wait_for(timeout=RUN)

    def run(self, number: int) -> Any:
        """Run a cell; its output.

        A request that comes before the kernel is connected is dropped by JupyterLab, so that it is made again while the
        cell is neither running nor done.
        """
        cell = self.cells.nth(number)
        prompt = cell.locator(".jp-InputArea-prompt")
        before, end, again = prompt.inner_text(), time.monotonic() + RUN / 1000, 0.0
        while (now := prompt.inner_text()) in (before, "[ ]:", "[*]:"):
            assert time.monotonic() < end, f"cell {number} has not run: {now}"
            if now != "[*]:" and time.monotonic() > again:
                cell.locator(".jp-InputArea-editor").click()
                self.page.keyboard.press("Control+Enter")
                again = time.monotonic() + 15
            self.page.wait_for_timeout(100)
        return cell.locator(".jp-Cell-outputArea")

    def state(self, number: int) -> dict[str, Any]:
        """What a cell prints of the traits."""
        return json.loads(self.run(number).inner_text().split("STATE ")[1])


def found_grid() -> dict[str, Any]:
    """Where the patches are that the first cell shows."""
    layout = tr.observe(tr.samples.path("coffee"), size=96).layout
    rows, columns = layout.grids["image"]
    return {"first": layout.indices("image")[0], "rows": rows, "columns": columns}


@pytest.mark.slow
@pytest.mark.browser
def test_a_click_is_read_in_python_and_python_moves_the_page(lab: str, browser: Browser) -> None:
    shown = browser.open(f"{lab}lab/tree/mine.ipynb", height=1400)
    book = Notebook(shown.page)
    first = book.run(0)
    canvas = first.locator("canvas").first
    canvas.wait_for(timeout=RUN)
    slider = first.locator("input[type=range][aria-valuetext*='ounce']").first
    slider.wait_for(timeout=RUN)

    book.run(1)
    before = book.state(2)
    assert (before["bounces"], before["starts"]) == (4, [9])
    assert slider.get_attribute("aria-valuetext").startswith("4 bounces")

    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    grid, row, column = found_grid(), 5, 2
    canvas.click(
        position={
            "x": (column + 0.5) / grid["columns"] * box["width"], "y": (row + 0.5) / grid["rows"] * box["height"]
        }
    )  # fmt: skip
    after = book.state(2)
    assert after["starts"] == [grid["first"] + row * grid["columns"] + column]
    assert after["bounces"] == 4

    canvas.focus()
    shown.page.keyboard.press("b")  # to JupyterLab it means a cell below
    first.get_by_role("button", name="Trace back", pressed=True).wait_for()
    assert book.cells.count() == len(CELLS)
    assert book.state(2)["direction"] == "backward"
    assert first.locator("[data-theme]").first.get_attribute("data-theme") == "dark", "as the notebook around it"
    shown.screenshot("first", full=False)
    after = book.state(2)

    other = book.run(3)
    other.locator("canvas").first.wait_for(timeout=RUN)
    other.locator("canvas").first.click(position={"x": 5, "y": 5})
    assert book.state(2) == after, "two explorers in one notebook do not disturb each other"

    book.run(4)  # bytes that are not there from the start
    first.get_by_text("model.layer.5.attention").first.wait_for()
    assert book.state(5)["layer"] == 5
    shown.screenshot("lab", full=False)
    assert not shown.outside
