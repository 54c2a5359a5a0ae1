"""Tables of the section "Guidance" of docs/diffusion.md, from results/guidance.json.

    python -m benchmarks.guidance_page

Tables of other sections are left as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from filled import RESULTS, Tables, power, refill, result, source, table

ARMS = {
    "none": "none",
    "colsum": "column sum",
    "tokenrank": "TokenRank",
    "bounce": "two bounces",
    "all": "everywhere",
    "random": "*random, as large as TokenRank's*",
}
FIGURES = {
    "fd_dinov2-small": "FD, DINOv2-small ↓",
    "kid_dinov2-small": "KID, DINOv2-small ↓",
    "fd_bundled": "FD, bundled ↓",
    "kid_bundled": "KID, bundled ↓",
    "accuracy": "named right ↑",
    "probability": "p of the right class ↑",
    "score_bundled": "score, bundled ↑",
    "precision_dinov2-small": "precision ↑",
    "recall_dinov2-small": "recall ↑",
}
TESTED = {
    "fd_dinov2-small": "FD, DINOv2-small",
    "fd_bundled": "FD, bundled",
    "kid_dinov2-small": "KID, DINOv2-small",
    "probability": "p of the right class",
    "score_bundled": "score, bundled",
    "precision_dinov2-small": "precision",
    "recall_dinov2-small": "recall",
}
UNSEEN = {
    "fd_dinov2-small_unseen": "FD, DINOv2-small ↓",
    "kid_dinov2-small_unseen": "KID, DINOv2-small ↓",
    "fd_bundled_unseen": "FD, bundled ↓",
    "kid_bundled_unseen": "KID, bundled ↓",
}
SURE = 0.05


def arms() -> str:
    """Every arm at every strength of classifier-free guidance, then real pictures that the network has not seen."""
    about = result("guidance")
    rows = [
        [strength(row["cfg"]), ARMS[row["arm"]], share(row), *(cell(name, row) for name in FIGURES)]
        for row in about["rows"]
    ]
    unseen = about["unseen"]
    told = {name for name in FIGURES if name not in ("accuracy", "probability", "score_bundled")}
    rows.append(["", "*real, unseen*", "", *(cell(name, unseen) if name in told else "" for name in FIGURES)])
    for place in range(len(rows) - 1, 0, -1):
        rows[place][0] = "" if rows[place][0] == rows[place - 1][0] else rows[place][0]
    return "\n\n".join([table(["CFG", "mask", "blurred", *FIGURES.values()], rows, right=2), source(about)])


def tests() -> str:
    """First minus second of every pair of arms."""
    found = result("guidance")["comparisons"]
    lines: dict[tuple[float, str, str], dict[str, Mapping[str, Any]]] = {}
    for pair in found:
        lines.setdefault((pair["cfg"], pair["first"], pair["second"]), {})[pair["figure"]] = pair
    rows = [
        [strength(cfg), f"{ARMS[one]} − {plain(ARMS[two])}", *(difference(name, line[name]) for name in TESTED)]
        for (cfg, one, two), line in lines.items()
    ]
    for place in range(len(rows) - 1, 0, -1):
        rows[place][0] = "" if rows[place][0] == rows[place - 1][0] else rows[place][0]
    return table(["CFG", "mask", *TESTED.values()], rows, right=2)


def unseen() -> str:
    """Distances to the real pictures that the network was not trained on."""
    rows = [
        [strength(row["cfg"]), ARMS[row["arm"]], *(cell(name, row) for name in UNSEEN)]
        for row in result("guidance")["rows"]
    ]
    return table(["CFG", "mask", *UNSEEN.values()], rows, right=2)


def settings() -> str:
    """What was run, in a sentence."""
    about = result("guidance")
    trained = about["training"]
    network = f"The network after {trained['steps']:,} steps ({trained['minutes']:g} minutes). " if trained else ""
    real, minutes = about["real"], about["seconds"]["all"] / 60
    return (
        f"{network}{about['seeds']:,} seeds, {about['steps']} steps, scale {about['scale']:g}, blur of σ "
        f"{about['sigma']:g} in cells, {real['train']:,} real pictures that it was trained on and {real['val']:,} that "
        f"it was not; {minutes:.0f} minutes in all."
    )


def strength(cfg: float) -> str:
    return "none" if cfg == 1 else f"{cfg:g}"


def share(row: Mapping[str, Any]) -> str:
    return f"{row['share']:.0%}" if "share" in row else ""


def scale_of(figure: str) -> tuple[float, int]:
    """Factor and digits that a figure is shown with."""
    if figure.startswith("kid"):
        return 1.0, 3
    if figure.startswith("fd"):
        return 1.0, 1
    return (1.0, 2) if figure.startswith("score") else (100.0, 1)


def cell(figure: str, row: Mapping[str, Any]) -> str:
    """12.3 [12.0, 12.6]; shares in percent."""
    factor, digits = scale_of(figure)
    value, low, high = (f"{factor * number:.{digits}f}".replace("-", "−") for number in row[figure])
    return f"{value} [{low}, {high}]"


def difference(figure: str, pair: Mapping[str, Any]) -> str:
    """+0.3 [+0.1, +0.5], p 1e−3; bold where Holm's p is below 0.05."""
    factor, digits = scale_of(figure)
    value, low, high = (
        f"{factor * pair[name]:+.{digits}f}".replace("-", "−") for name in ("difference", "low", "high")
    )
    p = pair["p_holm"]
    words = f"{value} [{low}, {high}], p {f'{p:.2f}' if p >= 0.01 else power(p)}"
    return f"**{words}**" if p < SURE else words


def plain(name: str) -> str:
    return name.strip("*").split(",")[0]


TABLES: Tables = {
    "guidance settings": settings,
    "guidance arms": arms,
    "guidance tests": tests,
    "guidance unseen": unseen,
}


def main() -> None:
    if not (RESULTS / "guidance.json").is_file():
        raise SystemExit("no results/guidance.json; run: python -m benchmarks.guidance")
    refill("diffusion.md", TABLES)


if __name__ == "__main__":
    main()
