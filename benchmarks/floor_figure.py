"""The house as its imports have it: rooms on floors, an arrow for every room that another one needs.

    python benchmarks/floor_figure.py --out docs/figures/floors.png

A room stands one floor above the highest room that it imports. Arrows that follow from two others are left out.
"""

from __future__ import annotations

import argparse
import ast
from functools import cache
from pathlib import Path

import tokenrank

SOURCE = Path(tokenrank.__file__).parent
HIDDEN = {"__init__"}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a file imports from, by relative or absolute imports of the package, also for types alone."""
    package = ("tokenrank", *file.relative_to(SOURCE).parts[:-1])
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules: list[str] = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split("."))).strip(".")
            modules = [module] if module != "tokenrank" else [f"tokenrank.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            modules = [a.name for a in node.names]
        rooms |= {m.split(".")[1] for m in modules if m.startswith("tokenrank.")}
    return rooms - {room_of(file)}


def house() -> tuple[dict[str, set[str]], dict[str, tuple[int, int]]]:
    """Room → rooms that it imports, and room → (files, lines)."""
    imports: dict[str, set[str]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        room = room_of(file)
        if room in HIDDEN:
            continue
        imports[room] = imports.get(room, set()) | imported_rooms(file)
        files, lines = sizes.get(room, (0, 0))
        sizes[room] = files + 1, lines + len(file.read_text(encoding="utf-8").splitlines())
    return {room: others & set(imports) for room, others in imports.items()}, sizes  # __version__ is no room


def floors(imports: dict[str, set[str]]) -> dict[str, int]:
    """Room → its floor, from 0."""

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in imports[room]), default=-1)

    return {room: floor(room) for room in imports}


def needed(imports: dict[str, set[str]]) -> set[tuple[str, str]]:
    """(room, imported room) without those that another import of the room brings along."""

    @cache
    def below(room: str) -> frozenset[str]:
        return frozenset(imports[room]).union(*(below(other) for other in imports[room]))

    return {
        (room, other)
        for room, others in imports.items()
        for other in others
        if not any(other in below(third) for third in others - {other})
    }


def draw(out: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    imports, sizes = house()
    levels = floors(imports)
    rows = [sorted(room for room in levels if levels[room] == level) for level in range(max(levels.values()) + 1)]
    widest = max(map(len, rows))
    figure = Figure(figsize=(2.0 * widest + 0.6, 0.82 * len(rows) + 0.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    place = {room: (i - (len(row) - 1) / 2, y) for y, row in enumerate(rows) for i, room in enumerate(row)}
    for room, other in sorted(needed(imports)):
        (x0, y0), (x1, y1) = place[room], place[other]
        bend = 0.0 if y0 - y1 == 1 else 0.18 * (1 if x0 >= x1 else -1)
        style = {"arrowstyle": "-|>", "color": "#9a86b3", "lw": 0.8, "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", (x1, y1 + 0.27), (x0, y0 - 0.27), arrowprops=style, zorder=1)
    for room, (x, y) in place.items():
        box = FancyBboxPatch(
            (x - 0.4, y - 0.25), 0.8, 0.5, boxstyle="round,pad=0.02", fc="#f4f0f8", ec="#5b2a86", lw=1, zorder=2
        )
        axes.add_patch(box)
        files, lines = sizes[room]
        many = f"{files} files, " if files > 1 else ""
        axes.text(x, y + 0.06, room, ha="center", va="center", size=9, weight="bold", zorder=3)
        axes.text(x, y - 0.13, f"{many}{lines:,} lines", ha="center", va="center", size=6.5, color="#444444", zorder=3)
    axes.set_xlim(-widest / 2, widest / 2)
    axes.set_ylim(-0.4, len(rows) - 0.6)
    figure.savefig(out, dpi=170)
    files, lines = (sum(size[i] for size in sizes.values()) for i in (0, 1))
    print(f"{files} files, {lines:,} lines, {len(rows)} floors: {out}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("docs/figures/floors.png"))
    draw(arguments.parse_args().out)


if __name__ == "__main__":
    main()
