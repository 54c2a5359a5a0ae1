"""Data flows one way: no module imports from a floor above its own."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

import tokenrank

SOURCE = Path(tokenrank.__file__).parent
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
floor_figure = import_module("floor_figure")  # reads imports for the picture of the floors
sys.path.pop(0)

FLOORS = [
    "errors",
    "writing",
    "untrusted",
    "memory",
    "progress",
    "grammar",
    "endings",
    "attention_mask",
    "token_text",
    "html",
    "plain",
    "components",
    "layout",
    "operators",
    "recording",
    "models",
    "samples",
    "markov",
    "chain",
    "distributed",
    "files",
    "trace",
    "select",
    "denoisers",
    "observation",
    "reading",
    "analysis",
    "tasks",
    "baselines",
    "view",
    "explorer",
    "workers",
    "evaluate",
    "benchmark",
    "mapping",
    "cli",
    "__main__",
]


def test_no_floor_imports_a_higher_one():
    files = [f for f in SOURCE.rglob("*.py") if f.name != "__init__.py" or f.parent != SOURCE]
    assert len(files) > 40
    unknown = {floor_figure.room_of(f) for f in files} - set(FLOORS)
    assert not unknown, f"give these a floor: {unknown}"
    upward = [
        f"{file.relative_to(SOURCE)} imports {target}"
        for file in files
        for target in floor_figure.imported_rooms(file) & set(FLOORS)
        if FLOORS.index(target) > FLOORS.index(floor_figure.room_of(file))
    ]
    assert not upward, upward


DOORS = {"observation/observation.py", "trace/trace.py"}
"""Methods of a lower floor that open the explorer when they are called, and not before."""


def test_doors_to_a_higher_floor_are_these():
    opened = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "import_module"
        and any(isinstance(a, ast.Constant) and str(a.value).startswith("tokenrank.explorer") for a in node.args)
    }
    assert opened == DOORS


def test_algorithms_know_no_models_and_no_plots():
    for folder in ("operators", "markov"):
        for file in (SOURCE / folder).rglob("*.py"):
            assert not floor_figure.imported_rooms(file) & {"recording", "models", "chain", "view"}, file
            assert "matplotlib" not in file.read_text(encoding="utf-8"), file


def modules_imported(file: Path) -> set[Path]:
    """Files of the package that a file imports from by relative imports, wherever these stand in it."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [base / alias.name for alias in node.names] + [base]
            places = [place for name in names for place in (name.with_suffix(".py"), name / "__init__.py")]
            imported |= {place for place in places if place.exists()}
    return imported - {file}


def test_there_is_no_import_circle():
    files = {f: modules_imported(f) for f in SOURCE.rglob("*.py")}
    faces = {f for f in files if f.name == "__init__.py"}
    left = {f: {g for g in needed if g in files} - faces for f, needed in files.items() if f not in faces}
    while free := [f for f, needed in left.items() if not needed & left.keys()]:
        for file in free:
            del left[file]
    assert not left, [str(f.relative_to(SOURCE)) for f in left]


def test_the_engine_and_the_support_know_no_question():
    markov = SOURCE / "markov"
    shared = {markov / name for name in ("certificate.py", "result.py")}
    rooms = {room: set((markov / room).rglob("*.py")) for room in ("engine", "support", "eigen", "pcca")}
    allowed = {
        "engine": rooms["engine"],
        "support": rooms["support"] | rooms["engine"],
        "eigen": rooms["eigen"] | rooms["engine"] | rooms["support"],
        "pcca": rooms["pcca"] | rooms["engine"],
    }
    for room, files in rooms.items():
        for file in files:
            beyond = {f for f in modules_imported(file) if markov in f.parents} - allowed[room] - shared
            assert not beyond - {markov / "__init__.py"}, (file, beyond)
