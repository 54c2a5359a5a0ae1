"""The notebooks that are shipped run from top to bottom, and what is kept of a run is what a reader should see."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(FOLDER))
execute = import_module("execute")
sys.path.pop(0)

NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
MAPS = {"1-the-paper": 14, "2-texts": 10, "3-one-click": 6}
"""How many outputs of each are maps or figures, at least."""


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: Any) -> list[str]:
    """Outputs with a map, a figure or tinted words."""
    bundles = [output.get("data", {}) for cell in code_of(notebook) for output in cell.outputs]
    pages = [bundle["text/html"] for bundle in bundles if "text/html" in bundle]
    figures = [kind for bundle in bundles for kind in bundle if kind in ("image/png", "image/jpeg")]
    return [page for page in pages if "data:image" in page or "background:#" in page] + figures


def test_there_are_three():
    assert list(MAPS) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_shows_maps(name: str):
    ran = execute.executed(FOLDER / f"{name}.ipynb")  # raises where a cell fails
    assert len(shown(ran)) >= MAPS[name]
    outputs = [output for cell in code_of(ran) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert len(nbformat.writes(ran).encode()) < execute.LIMIT
    kept = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    assert len(shown(kept)) == len(shown(ran)), "notebooks/execute.py has to be run"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_is_a_clean_run(name: str):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < execute.LIMIT
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    assert len(shown(notebook)) >= MAPS[name]
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)  # no place of whoever ran it
    assert not any(cell.metadata for cell in notebook.cells)
    for target in re.findall(r"\]\(([^)#]+)", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")):
        assert target.startswith("https://") or (FOLDER / target).exists(), target
