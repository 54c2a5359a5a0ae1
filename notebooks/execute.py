"""Run the notebooks of this folder anew and keep their outputs.

    python notebooks/execute.py [NAME…]

Needs ``pip install ipykernel nbclient``. What a run leaves that says nothing (times, ids of a session, progress) is
taken out, so that a notebook changes only where its cells or its answers do.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import nbclient
import nbformat

FOLDER = Path(__file__).parent
LIMIT = 1_000_000
"""Bytes of a notebook, which a page of a repository still shows."""


def executed(path: Path, timeout: int = 300) -> nbformat.NotebookNode:
    """A notebook with the outputs of a run in its own folder, and nothing else that a run leaves.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # a backend that was chosen for this process would keep figures out of the notebook
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = nbclient.NotebookClient(notebook, timeout=timeout, kernel_name="python3", record_timing=False,
                                     resources={"metadata": {"path": str(FOLDER)}})  # fmt: skip
    client.execute(env=environment | {"TOKENRANK_PROGRESS": "0"})
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{place:02d}"
        cell["metadata"] = {}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="notebooks; all of the folder by default")
    names = parser.parse_args().names
    chosen = [FOLDER / f"{Path(name).stem}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb"))
    for path in chosen:
        begun = time.monotonic()
        content = nbformat.writes(executed(path)) + "\n"
        if len(content.encode()) > LIMIT:
            raise SystemExit(f"{path.name} would have {len(content):,} bytes, more than {LIMIT:,}: show less in it")
        path.write_text(content, encoding="utf-8")
        print(f"{path.name}: {len(content) / 1000:.0f} kB, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
